/* Processes: fork, wait, exit codes, orphans, groups, sessions, ids. */
#include "guest.h"
#include <spawn.h>
#include <sys/resource.h>
#include <sys/prctl.h>

CASE(exit_codes) {
    for (int code = 0; code < 256; code += 51) {
        pid_t child = fork_clean();
        if (child == 0)
            _exit(code);
        report("child", child);
    }
    pid_t child = fork_clean();
    if (child == 0)
        _exit(0x1234);
    report("low byte", child);
}

CASE(memory_is_copied) {
    static int word = 1;
    char *heap = malloc(100000);
    memset(heap, 'a', 100000);
    int stack = 1;
    pid_t child = fork_clean();
    if (child == 0) {
        CHECK(word == 1 && stack == 1 && heap[99999] == 'a');
        word = stack = 2;
        memset(heap, 'b', 100000);
        _exit(word + stack + (heap[0] == 'b') + guest_failures);
    }
    report("writer", child);
    CHECK(word == 1 && stack == 1 && heap[0] == 'a' && heap[99999] == 'a');
}

CASE(wait_variants) {
    CHECK_ERRNO(wait(NULL), ECHILD);
    CHECK_ERRNO(waitpid(getpid(), NULL, 0), ECHILD);
    CHECK_ERRNO(waitpid(-1, NULL, 0x12345678), EINVAL);
    int gate[2];
    CHECK(pipe(gate) == 0);
    pid_t child = fork_clean();
    if (child == 0) {
        char c;
        close(gate[1]);
        CHECK(read(gate[0], &c, 1) == 0);
        _exit(9);
    }
    int status = 77;
    CHECK(waitpid(child, &status, WNOHANG) == 0 && status == 77);
    close(gate[1]);
    siginfo_t info;
    memset(&info, 0, sizeof info);
    CHECK(waitid(P_PID, child, &info, WEXITED | WNOWAIT) == 0);
    CHECK(info.si_pid == child && info.si_status == 9 && info.si_code == CLD_EXITED && info.si_signo == SIGCHLD);
    struct rusage usage;
    CHECK(wait4(child, &status, 0, &usage) == child && WEXITSTATUS(status) == 9);
    CHECK_ERRNO(waitpid(child, &status, 0), ECHILD);
    puts("done");
}

CASE(many_children_any_order) {
    int seen = 0;
    for (int i = 0; i < 8; i++)
        if (fork_clean() == 0) {
            sleep_ms((8 - i) * 5);
            _exit(i);
        }
    int status;
    while (wait(&status) > 0)
        seen |= 1 << WEXITSTATUS(status);
    printf("seen %#x, errno %s\n", seen, strerrorname_of(errno));
}

CASE(orphans) {
    int p[2];
    CHECK(pipe(p) == 0);
    pid_t child = fork_clean();
    if (child == 0) {
        pid_t middle = getpid();
        if (fork() == 0) {
            close(p[0]);
            for (int i = 0; i < 2000 && getppid() == middle; i++)
                sleep_ms(1);
            char answer = getppid() == middle ? 'n' : 'y';
            write(p[1], &answer, 1);
            _exit(0);
        }
        _exit(3);
    }
    close(p[1]);
    report("middle", child);
    char answer = '?';
    CHECK(read(p[0], &answer, 1) == 1);
    CHECK(read(p[0], &answer, 1) == 0);
    printf("orphan has a new parent: %c\n", answer);
}

CASE(subreaper) {
    CHECK(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0);
    pid_t child = fork_clean();
    if (child == 0) {
        if (fork() == 0) {
            sleep_ms(30);
            _exit(21);
        }
        _exit(3);
    }
    report("middle", child);
    int status = 0;
    CHECK(wait(&status) > 0);
    printf("adopted: %d\n", WEXITSTATUS(status));
}

CASE(groups_and_sessions) {
    CHECK(getpgrp() == getpgid(0));
    pid_t child = fork_clean();
    if (child == 0) {
        CHECK(getpgrp() == getpgid(getppid()));
        CHECK(setpgid(0, 0) == 0 && getpgrp() == getpid());
        CHECK_ERRNO(setsid(), EPERM);
        _exit(guest_failures);
    }
    report("own group", child);
    child = fork_clean();
    if (child == 0) {
        CHECK(setsid() == getpid() && getsid(0) == getpid() && getpgrp() == getpid());
        CHECK_ERRNO(setpgid(0, 0), EPERM);
        _exit(guest_failures);
    }
    report("own session", child);
    CHECK_ERRNO(setpgid(0, -1), EINVAL);
    CHECK_ERRNO(getpgid(999999), ESRCH);
}

CASE(vfork_and_exec) {
    fflush(stdout);
    volatile int shared = 1;
    pid_t child = vfork();
    if (child == 0) {
        shared = 2;
        execl("/bin/true", "true", (char *)NULL);
        _exit(1);
    }
    CHECK(shared == 2);
    report("vfork", child);
}

CASE(spawn) {
    extern char **environ;
    pid_t child;
    char *const argv[] = {"sh", "-c", "echo from spawn; exit 5", NULL};
    fflush(stdout);
    CHECK(posix_spawn(&child, "/bin/sh", NULL, NULL, argv, environ) == 0);
    report("spawn", child);
    CHECK(posix_spawn(&child, "/no/such/file", NULL, NULL, argv, environ) == ENOENT);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
    CHECK(posix_spawn(&child, "/bin/sh", &actions, NULL, argv, environ) == 0);
    report("spawn to /dev/null", child);
    CHECK(system("exit 12") == 12 << 8);
    FILE *f = popen("echo popen; exit 3", "r");
    char line[20] = "";
    CHECK(f && fgets(line, sizeof line, f));
    printf("%s%d\n", line, WEXITSTATUS(pclose(f)));
}

CASE(identity) {
    printf("%d %d %d %d\n", getuid(), geteuid(), getgid(), getegid());
    uid_t r, e, s;
    CHECK(getresuid(&r, &e, &s) == 0 && r == getuid() && s == geteuid());
    mode_t old = umask(027);
    CHECK(umask(old) == 027);
    CHECK(gettid() == getpid());
    CHECK_ERRNO(kill(999999, 0), ESRCH);
    CHECK(kill(getpid(), 0) == 0);
    char name[16] = "";
    CHECK(prctl(PR_SET_NAME, "a-rather-long-thread-name") == 0 && prctl(PR_GET_NAME, name) == 0);
    puts(name);
}

CASE(deep_tree) {
    fflush(stdout);
    int depth = 0;
    for (;;) {
        if (depth == 40)
            _exit(40);
        pid_t child = fork();
        if (child == 0) {
            depth++;
            continue;
        }
        int status;
        waitpid(child, &status, 0);
        if (depth)
            _exit(WEXITSTATUS(status));
        printf("deepest: %d\n", WEXITSTATUS(status));
        return;
    }
}

CASE(stop_and_continue) {
    pid_t child = fork_clean();
    if (child == 0)
        for (;;)
            pause();
    int status;
    CHECK(kill(child, SIGSTOP) == 0);
    CHECK(waitpid(child, &status, WUNTRACED) == child && WIFSTOPPED(status));
    printf("stopped by %d\n", WSTOPSIG(status));
    CHECK(kill(child, SIGCONT) == 0);
    CHECK(waitpid(child, &status, WCONTINUED) == child && WIFCONTINUED(status));
    CHECK(kill(child, SIGTERM) == 0);
    report("ended", child);
}

static volatile int got_usr1;
static void on_usr1(int sig) { got_usr1++; }

/* A child whose end is told by `sig`. */
static pid_t clone_with(int flags) {
    fflush(stdout);
    return syscall(SYS_clone, flags, 0, 0, 0, 0);
}

CASE(exit_signals) {
    CHECK(signal(SIGUSR1, on_usr1) != SIG_ERR);
    CHECK(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0);
    pid_t child = clone_with(SIGUSR1);
    if (child == 0)
        _exit(0);
    int status;
    while (waitpid(child, &status, __WALL) < 0 && errno == EINTR)
        ;
    printf("told by its own signal: %d\n", got_usr1);
    child = clone_with(0x90); /* no signal has this number */
    if (child == 0)
        _exit(0);
    CHECK(waitpid(child, &status, __WALL) == child);
    /* A child of the child, and a sibling of the child, do not choose what we get. */
    for (int sibling = 0; sibling < 2; sibling++) {
        child = fork_clean();
        if (child == 0) {
            if (clone_with(SIGUSR1 | (sibling ? CLONE_PARENT : 0)) == 0)
                sleep_ms(100);
            _exit(0);
        }
        for (int n = 0; n < 2; n++)
            while (waitpid(-1, &status, __WALL) < 0)
                if (errno != EINTR)
                    break;
        CHECK_ERRNO(waitpid(-1, &status, __WALL), ECHILD);
    }
    printf("told in all: %d\n", got_usr1);
}

/* Nobody of a group is left when all of them, whose orphans come here, are reaped. */
static void nobody_is_left(pid_t group) {
    int64_t since = now_ms();
    while (waitpid(-group, NULL, WNOHANG) >= 0 && now_ms() - since < 20000)
        sleep_ms(1);
    CHECK_ERRNO(kill(-group, 0), ESRCH);
    kill(-group, SIGKILL);
}

/* A signal that is there when fork begins goes first: it was sent to a group that the child was not in. */
CASE(groups_that_grow) {
    CHECK(prctl(PR_SET_CHILD_SUBREAPER, 1) == 0);
    for (int round = 0; round < 300; round++) {
        int ends[2];
        char c;
        CHECK(pipe(ends) == 0);
        pid_t group = fork_clean();
        if (group == 0) {
            setpgid(0, 0);
            write(ends[1], "x", 1);
            for (int i = 0; i < 12 && fork() != 0; i++)
                ;
            for (;;)
                pause();
        }
        CHECK(read(ends[0], &c, 1) == 1);
        close(ends[0]), close(ends[1]);
        for (volatile int wait = round * 7919 % 20000; wait > 0; wait--)
            ;
        CHECK(kill(-group, round % 2 ? SIGTERM : SIGUSR1) == 0);
        nobody_is_left(group);
    }
    puts("done");
}

/* Who is killed with its group while it copies itself leaves nobody behind: the copy is one of the group, too. */
CASE(groups_of_forking_processes) {
    enum { SIZE = 96 << 20 };
    int signals[] = {SIGTERM, SIGKILL, SIGTERM, SIGUSR1};
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    for (int round = 0; round < 12; round++) {
        int ends[2];
        char c;
        CHECK(pipe(ends) == 0);
        pid_t group = fork_clean();
        if (group == 0) {
            setpgid(0, 0);
            volatile char *p = malloc(SIZE);
            for (int at = 0; at < SIZE; at += 4096)
                p[at] = 1;
            write(ends[1], "x", 1);
            for (int i = 0; i < 3; i++)
                fork();
            for (;;)
                pause();
        }
        CHECK(read(ends[0], &c, 1) == 1);
        sleep_ms(round * 4);
        CHECK(kill(-group, signals[round % 4]) == 0);
        nobody_is_left(group);
        close(ends[0]), close(ends[1]);
    }
    puts("done");
}
