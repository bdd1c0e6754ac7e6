/* execve: arguments, environment, close-on-exec, scripts, errors. Works in a fresh directory under /tmp. */
#include "guest.h"

static char dir[] = "/tmp/guest-exec-XXXXXX";
static void enter(void) {
    CHECK(mkdtemp(dir) && chdir(dir) == 0);
}
static void leave(void) {
    char command[100];
    snprintf(command, sizeof command, "rm -rf %s", dir);
    if (chdir("/") || system(command))
        puts("cannot clean up");
}
static void put(const char *name, const char *text, mode_t mode) {
    int fd = open(name, O_CREAT | O_WRONLY | O_TRUNC, 0600);
    CHECK(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
    CHECK(fchmod(fd, mode) == 0 && close(fd) == 0);
}
static void run(const char *what, const char *path, char *const argv[]) {
    char *const env[] = {"A=1", "B=two words", NULL};
    pid_t child = fork_clean();
    if (child == 0) {
        execve(path, argv, env);
        printf("%s: %s\n", what, strerrorname_of(errno));
        fflush(stdout);
        _exit(111);
    }
    report(what, child);
}

CASE(arguments_and_environment) {
    run("args", "/bin/sh", (char *[]){"sh", "-c", "echo $# \"$1\" \"$2\" [$A] [$B] [$HOME]", "x", "a b", "", NULL});
    run("argv0", "/bin/sh", (char *[]){"other name", "-c", "echo $0", NULL});
}

CASE(scripts) {
    enter();
    put("plain", "#!/bin/sh\necho plain $0 $# $1\n", 0700);
    run("plain", "./plain", (char *[]){"ignored", "one", NULL});
    put("arg", "#! /bin/sh  -e \nfalse\necho not reached\n", 0700);
    run("one argument", "./arg", (char *[]){"arg", NULL});
    put("nested", "#!./plain two words\n", 0700);
    run("nested", "./nested", (char *[]){"nested", NULL});
    put("self", "#!./self\n", 0700);
    run("self", "./self", (char *[]){"self", NULL});
    put("a", "#!./b\n", 0700);
    put("b", "#!./a\n", 0700);
    run("mutual", "./a", (char *[]){"a", NULL});
    put("missing", "#!/no/such/interpreter\n", 0700);
    run("missing interpreter", "./missing", (char *[]){"missing", NULL});
    put("dirint", "#!/tmp\n", 0700);
    run("directory as interpreter", "./dirint", (char *[]){"dirint", NULL});
    put("empty", "", 0700);
    run("empty file", "./empty", (char *[]){"empty", NULL});
    put("blank", "#!   \n", 0700);
    run("blank line", "./blank", (char *[]){"blank", NULL});
    put("text", "echo no magic\n", 0700);
    run("no magic", "./text", (char *[]){"text", NULL});
    put("nonl", "#!/bin/true", 0700);
    run("no newline", "./nonl", (char *[]){"nonl", NULL});
    char longline[600] = "#!/";
    memset(longline + 3, 'x', 500);
    put("long", longline, 0700);
    run("long line", "./long", (char *[]){"long", NULL});
    leave();
}

CASE(errors) {
    enter();
    char *const argv[] = {"x", NULL};
    run("missing", "./missing", argv);
    run("directory", "/tmp", argv);
    put("noexec", "#!/bin/true\n", 0600);
    run("not executable", "./noexec", argv);
    run("through a file", "./noexec/x", argv);
    run("empty path", "", argv);
    CHECK(symlink("loop", "loop") == 0);
    run("link to itself", "./loop", argv);
    CHECK(symlink("/bin/true", "link") == 0);
    run("link", "./link", argv);
    char name[5000];
    memset(name, 'n', sizeof name);
    name[4999] = 0;
    run("path too long", name, argv);
    name[300] = 0;
    run("name too long", name, argv);
    CHECK_ERRNO(syscall(SYS_execve, 1, argv, NULL), EFAULT);
    CHECK_ERRNO(syscall(SYS_execve, "/bin/true", 1, NULL), EFAULT);
    CHECK_ERRNO(syscall(SYS_execve, "/bin/true", argv, 1), EFAULT);
    leave();
}

CASE(argument_limits) {
    char *big = malloc(200000);
    memset(big, 'x', 200000);
    big[100000] = 0;
    run("100000 bytes", "/bin/sh", (char *[]){"sh", "-c", "echo ${#1}", "x", big, NULL});
    big[100000] = 'x';
    big[140000] = 0;
    run("one string over 128 KiB", "/bin/true", (char *[]){"true", big, NULL});
    int n = 9000;
    char **argv = calloc(n + 4, sizeof *argv);
    argv[0] = "sh";
    argv[1] = "-c";
    argv[2] = "echo $#";
    for (int i = 3; i < n; i++)
        argv[i] = "argument";
    run("9000 arguments", "/bin/sh", argv);
    big[100000] = 0;
    char **huge = calloc(100, sizeof *huge);
    for (int i = 0; i < 99; i++)
        huge[i] = big;
    run("too much together", "/bin/true", huge);
}

CASE(close_on_exec) {
    int keep = open("/dev/null", O_RDONLY), drop = open("/dev/null", O_RDONLY | O_CLOEXEC);
    CHECK(dup2(keep, 100) == 100 && dup3(drop, 101, O_CLOEXEC) == 101);
    CHECK(fcntl(101, F_GETFD) == FD_CLOEXEC && fcntl(100, F_GETFD) == 0);
    run("descriptors", "/bin/sh",
        (char *[]){"sh", "-c", "for f in 100 101; do if [ -e /proc/self/fd/$f ]; then echo $f open; fi; done", NULL});
}

CASE(signals_after_exec) {
    signal(SIGUSR1, SIG_IGN);
    signal(SIGUSR2, (void (*)(int))case_signals_after_exec);
    run("ignored stays", "/bin/sh", (char *[]){"sh", "-c", "kill -USR1 $$; echo alive; kill -USR2 $$; echo no", NULL});
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigprocmask(SIG_BLOCK, &set, NULL);
    run("blocked stays", "/bin/sh", (char *[]){"sh", "-c", "kill -TERM $$; echo alive", NULL});
}

CASE(same_pid) {
    pid_t child = fork_clean();
    if (child == 0) {
        char command[64];
        snprintf(command, sizeof command, "test $$ = %d", getpid());
        execl("/bin/sh", "sh", "-c", command, (char *)NULL);
        _exit(1);
    }
    report("pid", child);
}

CASE(fexecve) {
    int fd = open("/bin/echo", O_RDONLY | O_CLOEXEC);
    pid_t child = fork_clean();
    if (child == 0) {
        fexecve(fd, (char *[]){"echo", "by descriptor", NULL}, (char *[]){NULL});
        _exit(1);
    }
    report("fexecve", child);
}

CASE(replaced_while_running) {
    enter();
    put("prog", "#!/bin/sh\necho first\n", 0700);
    run("first", "./prog", (char *[]){"prog", NULL});
    put("new", "#!/bin/sh\necho second\n", 0700);
    CHECK(rename("new", "prog") == 0);
    run("second", "./prog", (char *[]){"prog", NULL});
    leave();
}
