/* Many processes, and what happens when something runs out. */
#include "guest.h"
#include <sys/resource.h>

CASE(one_after_another) {
    int sum = 0;
    for (int i = 0; i < 1000; i++) {
        pid_t child = fork();
        if (child == 0)
            _exit(i & 127);
        int status;
        CHECK(waitpid(child, &status, 0) == child);
        sum += WEXITSTATUS(status);
    }
    printf("sum %d\n", sum);
}

CASE(alive_at_once) {
    int gate[2], alive = 0, sum = 0;
    CHECK(pipe(gate) == 0);
    fflush(stdout);
    for (int i = 0; i < 200; i++) {
        pid_t child = fork();
        if (child == 0) {
            char c;
            close(gate[1]);
            read(gate[0], &c, 1);
            _exit(i & 63);
        }
        alive += child > 0;
    }
    close(gate[1]);
    int status;
    while (wait(&status) > 0)
        sum += WEXITSTATUS(status);
    printf("%d alive, sum %d\n", alive, sum);
}

CASE(exec_many) {
    int good = 0;
    for (int i = 0; i < 100; i++) {
        pid_t child = vfork();
        if (child == 0) {
            execl("/proc/self/exe", "many", "nothing", (char *)NULL);
            _exit(1);
        }
        int status;
        waitpid(child, &status, 0);
        good += WEXITSTATUS(status) == 0;
    }
    printf("%d of 100\n", good);
}
CASE(nothing) {}

CASE(fork_bomb_in_a_limit) {
    /* Every process forks until the limit: each fork either works or says EAGAIN, and all end. */
    int p[2];
    CHECK(pipe(p) == 0);
    pid_t child = fork_clean();
    if (child == 0) {
        setuid(65534);
        struct rlimit limit = {40, 40};
        setrlimit(RLIMIT_NPROC, &limit);
        int again = 0;
        for (int i = 0; i < 8; i++) {
            pid_t one = fork();
            if (one < 0)
                again += errno == EAGAIN ? 1 : 1000;
        }
        if (again)
            write(p[1], again < 1000 ? "a" : "X", 1);
        sleep_ms(50);
        while (wait(NULL) > 0)
            ;
        _exit(0);
    }
    close(p[1]);
    report("bomb", child);
    char c;
    int refused = 0, wrong = 0;
    while (read(p[0], &c, 1) == 1)
        c == 'a' ? refused++ : wrong++;
    printf("refused some: %d, wrong errno: %d\n", refused > 0, wrong);
}

CASE(descriptors_run_out) {
    struct rlimit limit = {64, 64};
    CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    int n = 0, fd;
    while ((fd = open("/dev/null", O_RDONLY)) >= 0)
        n++;
    printf("%d more, errno %s\n", n + 3, strerrorname_of(errno));
    int p[2];
    CHECK_ERRNO(pipe(p), EMFILE);
    CHECK_ERRNO(dup(0), EMFILE);
    CHECK_ERRNO(fcntl(0, F_DUPFD, 64), EINVAL);
    CHECK_ERRNO(dup2(0, 64), EBADF);
    close(10);
    CHECK(open("/dev/null", O_RDONLY) == 10);
    pid_t child = fork_clean();
    if (child == 0)
        _exit(fcntl(63, F_GETFD) != 0);
    report("child", child);
}

CASE(memory_runs_out) {
    /* The address space limit, then recovery. */
    struct rlimit limit = {300 << 20, 300 << 20};
    CHECK(setrlimit(RLIMIT_AS, &limit) == 0);
    void *blocks[100];
    int n = 0;
    while (n < 100 && (blocks[n] = mmap(NULL, 16 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)) != MAP_FAILED)
        n++;
    CHECK(n > 5 && n < 20 && errno == ENOMEM);
    CHECK(malloc(64 << 20) == NULL);
    for (int i = 0; i < n; i++)
        munmap(blocks[i], 16 << 20);
    char *again = malloc(64 << 20);
    CHECK(again != NULL);
    puts("recovered");
}

CASE(file_size_limit) {
    char path[] = "/tmp/guest-limit-XXXXXX";
    int fd = mkstemp(path);
    unlink(path);
    struct rlimit limit = {1000, 1000};
    CHECK(setrlimit(RLIMIT_FSIZE, &limit) == 0);
    signal(SIGXFSZ, SIG_IGN);
    char block[600] = {0};
    CHECK(write(fd, block, 600) == 600 && write(fd, block, 600) == 400);
    CHECK_ERRNO(write(fd, block, 600), EFBIG);
    CHECK_ERRNO(fallocate(fd, 0, 500, 501), EFBIG);
    CHECK(fallocate(fd, 0, 0, 1000) == 0 && fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 2000) == 0);
    CHECK(lseek(fd, 0, SEEK_END) == 1000);
    int memory = memfd_create("limited", 0);
    CHECK_ERRNO(fallocate(memory, 0, 0, 1001), EFBIG);
    CHECK_ERRNO(fallocate(memory, FALLOC_FL_KEEP_SIZE, 0, 1001), EFBIG);
    CHECK(fallocate(memory, 0, 0, 1000) == 0);
    puts("done");
}

CASE(limits_of_another_user) {
    fflush(stdout);
    if (fork() == 0) {
        struct rlimit none = {0, 0}, old;
        pid_t parent = getppid();
        if (setgid(65534) || setuid(65534))
            _exit(0); /* not root: nothing to ask */
        int read = prlimit(parent, RLIMIT_CPU, NULL, &old), e1 = errno;
        int write = prlimit(parent, RLIMIT_CPU, &none, NULL), e2 = errno;
        _exit(read == -1 && e1 == EPERM && write == -1 && e2 == EPERM && prlimit(0, RLIMIT_CPU, NULL, &old) == 0 ? 0 : 1);
    }
    int status;
    wait(&status);
    printf("%d\n", WEXITSTATUS(status));
}

CASE(cpu_limit) {
    pid_t child = fork_clean();
    if (child == 0) {
        struct rlimit limit = {1, 2};
        setrlimit(RLIMIT_CPU, &limit);
        for (;;)
            asm volatile("");
    }
    report("busy", child);
}

CASE(zombies_are_cheap) {
    for (int round = 0; round < 3; round++) {
        fflush(stdout);
        for (int i = 0; i < 100; i++)
            if (fork() == 0)
                _exit(0);
        sleep_ms(30);
        int n = 0;
        while (wait(NULL) > 0)
            n++;
        printf("%d reaped\n", n);
    }
}
