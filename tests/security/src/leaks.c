/* Creates processes, threads, mappings and files, also in ways that fail, and prints what is missing afterwards:
 * free memory in KiB, processes, the next descriptor.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/sysinfo.h>
#include <sys/wait.h>
#include <unistd.h>

static void *thread(void *arg) { return arg; }

static void one_round(char *self) {
    pid_t child = fork();
    if (child == 0) {
        char *p = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        memset(p, 1, 1 << 20);
        _exit(0);
    }
    waitpid(child, NULL, 0);
    if ((child = fork()) == 0) {
        execl(self, self, "child", (char *)NULL);
        _exit(1);
    }
    waitpid(child, NULL, 0);
    if ((child = fork()) == 0) {
        execl("/etc/passwd", "x", (char *)NULL);
        *(volatile int *)8 = 1;
    }
    waitpid(child, NULL, 0);
    if ((child = fork()) == 0)
        for (;;)
            pause();
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    struct rlimit limit, few;
    getrlimit(RLIMIT_NOFILE, &limit);
    few = limit;
    few.rlim_cur = 12;
    setrlimit(RLIMIT_NOFILE, &few);
    int p[20][2], n = 0;
    while (n < 20 && pipe(p[n]) == 0)
        n++;
    while (n--) {
        close(p[n][0]);
        close(p[n][1]);
    }
    setrlimit(RLIMIT_NOFILE, &limit);
    pthread_t t;
    if (pthread_create(&t, NULL, thread, NULL) == 0)
        pthread_join(t, NULL);
    char path[] = "/tmp/leaks-XXXXXX";
    int fd = mkstemp(path);
    ftruncate(fd, 1 << 20);
    char *shared = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    memset(shared, 2, 1 << 20);
    munmap(shared, 1 << 20);
    close(fd);
    unlink(path);
}

int main(int argc, char **argv) {
    struct sysinfo before, after;
    if (argc > 1 && strcmp(argv[1], "child") == 0)
        return 0;
    int rounds = argc > 1 ? atoi(argv[1]) : 50;
    for (int i = 0; i < 10; i++)
        one_round("/proc/self/exe");
    int fd_before = dup(0);
    close(fd_before);
    sysinfo(&before);
    for (int i = 0; i < rounds; i++)
        one_round("/proc/self/exe");
    sysinfo(&after);
    int fd_after = dup(0);
    printf("%ld %d %d\n", ((long)before.freeram - (long)after.freeram) / 1024, after.procs - before.procs, fd_after - fd_before);
    return 0;
}
