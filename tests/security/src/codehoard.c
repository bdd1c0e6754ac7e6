/* codehoard MAPPINGS: two processes keep that many mappings with code each, every one of them a piece of the code cache,
 * and run them all again and again; a program that nobody has run before then has to run.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE 4096

static int hoard(int file, int count, int from) {
    int good = 0;
    char *place = mmap(NULL, (size_t)count * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (int i = 0; i < count; i++) {
        int which = (from + i) * 5 % 128;
        void *at = mmap(place + (size_t)i * PAGE, PAGE, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_FIXED, file, (off_t)which * PAGE);
        good += at != MAP_FAILED && ((int (*)(void))at)() == which;
    }
    for (int i = 0; i < count; i += 7) {
        int which = (from + i) * 5 % 128;
        good += ((int (*)(void))(place + (size_t)i * PAGE))() == which;
    }
    return good == count + (count + 6) / 7;
}

int main(int argc, char **argv) {
    int count = atoi(argv[1]), file = open("/tmp/hoard", O_RDWR | O_CREAT, 0700), ready[2], done[2];
    unsigned char page[PAGE] = { 0xb8, 0, 0, 0, 0, 0xc3 };
    for (int i = 0; i < 128; i++)
        memcpy(page + 1, &i, sizeof i), pwrite(file, page, PAGE, (off_t)i * PAGE);
    pipe(ready), pipe(done);
    for (int n = 0; n < 2; n++)
        if (fork() == 0) {
            close(done[1]);
            char c = hoard(file, count, n * 17) ? 'y' : 'n';
            write(ready[1], &c, 1);
            read(done[0], &c, 1);
            _exit(0);
        }
    close(ready[1]);
    char said[2] = "";
    for (int n = 0; n < 2 && read(ready[0], said + n, 1) == 1; n++)
        ;
    printf("hoarders: %.2s\n", said);
    fflush(stdout);
    int status = 0;
    if (fork() == 0) {
        execv(argv[2], argv + 2);
        _exit(99);
    }
    wait(&status);
    printf("newcomer: %d\n", WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status));
    return 0;
}
