/* Frame of the guest programs: each topic is one program with named cases.
 *
 * `program CASE` runs one case, `program` runs all of them, each in a child. What a case prints is compared with a
 * native run, so it must not depend on pids, addresses or times. CHECK prints the place of a broken expectation.
 */
#ifndef GUEST_H
#define GUEST_H
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

struct guest_case {
    const char *name;
    void (*run)(void);
};
static struct guest_case guest_cases[64];
static int guest_case_count;
static int guest_failures;

#define CASE(name)                                                                       \
    static void case_##name(void);                                                       \
    __attribute__((constructor)) static void register_##name(void) {                     \
        guest_cases[guest_case_count++] = (struct guest_case){#name, case_##name};       \
    }                                                                                    \
    static void case_##name(void)

#define CHECK(condition)                                                                 \
    do {                                                                                 \
        if (!(condition)) {                                                              \
            int saved = errno;                                                           \
            printf("%s:%d: not so: %s (errno %s)\n", __FILE_NAME__, __LINE__, #condition, \
                   strerrorname_of(saved));                                              \
            guest_failures++;                                                            \
        }                                                                                \
    } while (0)

#define CHECK_ERRNO(call, expected)                                                      \
    do {                                                                                 \
        errno = 0;                                                                       \
        long value = (long)(call);                                                       \
        if (value != -1 || errno != (expected)) {                                        \
            printf("%s:%d: %s: %ld, errno %s, not %s\n", __FILE_NAME__, __LINE__, #call, value, \
                   strerrorname_of(errno), strerrorname_of(expected));                   \
            guest_failures++;                                                            \
        }                                                                                \
    } while (0)

#ifndef __FILE_NAME__
#define __FILE_NAME__ __FILE__
#endif

__attribute__((unused)) static const char *strerrorname_of(int number) {
#ifdef __GLIBC__
    const char *name = strerrorname_np(number);
    return name ? name : "?";
#else
    return strerror(number);
#endif
}

/* Waits for a child and prints how it ended. */
__attribute__((unused)) static void report(const char *what, pid_t child) {
    int status = 0;
    pid_t got;
    do
        got = waitpid(child, &status, 0);
    while (got < 0 && errno == EINTR);
    if (got != child)
        printf("%s: waitpid: %s\n", what, strerrorname_of(errno));
    else if (WIFEXITED(status))
        printf("%s: exit %d\n", what, WEXITSTATUS(status));
    else if (WIFSIGNALED(status))
        printf("%s: signal %d\n", what, WTERMSIG(status));
    else
        printf("%s: status %#x\n", what, status);
    fflush(stdout);
}

/* fork that never duplicates buffered output. */
__attribute__((unused)) static pid_t fork_clean(void) {
    fflush(stdout);
    return fork();
}

__attribute__((unused)) static void sleep_ms(long ms) {
    struct timespec t = {ms / 1000, ms % 1000 * 1000000};
    while (nanosleep(&t, &t) < 0 && errno == EINTR)
        ;
}

/* Does the task of this stat file in /proc sleep? */
__attribute__((unused)) static int task_sleeps(const char *stat) {
    char text[512] = "";
    int fd = open(stat, O_RDONLY);
    ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof text - 1);
    close(fd);
    char *name_end = n > 0 ? strrchr(text, ')') : NULL;
    return name_end && name_end[2] == 'S';
}
/* Waits until the child waits in its call, however busy the machine is. */
__attribute__((unused)) static void until_it_sleeps(pid_t child) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)child);
    for (int in_a_row = 0, i = 0; in_a_row < 5 && i < 10000; i++) {
        sleep_ms(2);
        in_a_row = task_sleeps(path) ? in_a_row + 1 : 0;
    }
}
/* Waits until the other threads, so many, wait in their calls. */
__attribute__((unused)) static void until_threads_sleep(int count) {
    for (int in_a_row = 0, i = 0; in_a_row < 5 && i < 10000; i++) {
        sleep_ms(2);
        DIR *tasks = opendir("/proc/self/task");
        int asleep = 0;
        for (struct dirent *task; (task = readdir(tasks));) {
            char path[300];
            snprintf(path, sizeof path, "/proc/self/task/%s/stat", task->d_name);
            asleep += atoi(task->d_name) != getpid() && task_sleeps(path);
        }
        closedir(tasks);
        in_a_row = asleep == count ? in_a_row + 1 : 0;
    }
}

__attribute__((unused)) static int64_t now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* Arguments: a case's name runs it alone; "-NAME" arguments run all but these, each in a child. */
static int left_out(int argc, char **argv, const char *name) {
    for (int i = 1; i < argc; i++) {
        if (argv[i][0] == '-' && strcmp(argv[i] + 1, name) == 0) {
            return 1;
        }
    }
    return 0;
}

int main(int argc, char **argv) {
    int alone = argc > 1 && argv[1][0] != '-';
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (int i = 0; i < guest_case_count; i++) {
        if (left_out(argc, argv, guest_cases[i].name)) {
            continue;
        }
        if (alone) {
            if (strcmp(argv[1], guest_cases[i].name) == 0) {
                guest_cases[i].run();
                fflush(stdout);
                return guest_failures > 100 ? 100 : guest_failures;
            }
            continue;
        }
        pid_t child = fork_clean();
        if (child == 0) {
            guest_cases[i].run();
            fflush(stdout);
            _exit(guest_failures > 100 ? 100 : guest_failures);
        }
        report(guest_cases[i].name, child);
    }
    return alone ? 99 : 0;
}
#endif
