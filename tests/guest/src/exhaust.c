/* Memory that ends, in every step of making a process.
 *
 * `exhaust` is not compared with a native run: it is started with small enclaves, which natively do not exist. A hog
 * takes memory until little is left; then each way of making a process is tried again and again while the rest goes.
 * Whatever fails must fail with ENOMEM or EAGAIN, or kill that child only; a neighbour works on unharmed; and when all
 * is over the LibOS has given back what it took (/proc/occlum).
 */
#include "guest.h"
#include <dirent.h>
#include <poll.h>
#include <pthread.h>
#include <spawn.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>

#define PAGE 4096
#ifndef ROUNDS
#define ROUNDS 1
#endif
static char *const nothing[] = {NULL};
static const char *self;

struct counters {
    long available_kb, taken_kb, heap_kb, slots, shared_pages, processes, tasks, open_files;
};
static struct counters counters(void) {
    char text[400] = "", name[40];
    struct counters c = {0};
    int fd = open("/proc/occlum", O_RDONLY);
    CHECK(fd >= 0 && read(fd, text, sizeof text - 1) > 0);
    close(fd);
    CHECK(sscanf(text, "available_kb %ld taken_kb %ld heap_kb %ld slots %ld shared_pages %ld processes %ld tasks %ld open_files %ld", &c.available_kb, &c.taken_kb, &c.heap_kb, &c.slots,
              &c.shared_pages, &c.processes, &c.tasks, &c.open_files) == 8);
    return c;
}

/* Takes memory until `left_kb` are available. */
static void hog(long left_kb) {
    for (;;) {
        long over = counters().available_kb - left_kb;
        if (over <= 0)
            return;
        size_t size = (size_t)(over > 256 ? over / 2 : 16) * 1024;
        char *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (p == MAP_FAILED)
            return;
        memset(p, 1, size);
    }
}

static int adjust(const char *text) {
    int fd = open("/proc/self/oom_score_adj", O_WRONLY);
    int done = write(fd, text, strlen(text)) == (ssize_t)strlen(text);
    close(fd);
    return done;
}
static void never_the_victim(void) {
    CHECK(adjust("-1000"));
}

static int descriptors_end; /* set by what uses them all up */
static int expected(int error) {
    if (error == ENOMEM || error == EAGAIN || error == ENOSPC || error == ENOBUFS || (error == EMFILE && descriptors_end))
        return 1;
    printf("unexpected errno %s\n", strerrorname_of(error));
    return 0;
}
/* A child may end well, or for want of memory: by SIGKILL, or SIGSEGV or SIGBUS where its own start-up gave up. */
static void reap(pid_t child) {
    int status;
    CHECK(waitpid(child, &status, 0) == child);
    if (WIFSIGNALED(status)) {
        int sig = WTERMSIG(status);
        if (sig != SIGKILL && sig != SIGSEGV && sig != SIGABRT)
            printf("child: signal %d\n", sig);
        CHECK(sig == SIGKILL || sig == SIGSEGV || sig == SIGABRT);
    } else
        CHECK(WIFEXITED(status));
}
static void expect(int ok) {
    CHECK(ok || expected(errno));
}
static void started(pid_t child) {
    if (child < 0)
        expect(0);
    else
        reap(child);
}
static void *idle(void *unused) {
    return unused;
}

static void step_fork(void) {
    pid_t child = fork();
    if (child == 0) {
        volatile char *p = malloc(100 * PAGE);
        for (int i = 0; p && i < 100 * PAGE; i += PAGE)
            p[i] = 1;
        _exit(0);
    }
    started(child);
}
static void step_vfork_exec(void) {
    int error = 0;
    pid_t child = vfork();
    if (child == 0) {
        execl(self, self, "-exit", NULL);
        error = errno;
        _exit(0);
    }
    if (error)
        CHECK(expected(error));
    started(child);
}
static void step_spawn(void) {
    pid_t child;
    char *const argv[] = {(char *)self, "-exit", NULL};
    int error = posix_spawn(&child, self, NULL, NULL, argv, nothing);
    errno = error;
    started(error ? -1 : child);
}
static void step_long_arguments(void) {
    /* As much as may be, of arguments and of environment: 2 MiB of both. */
    static char text[125000], *argv[11];
    memset(text, 'x', sizeof text - 1);
    argv[0] = (char *)self, argv[1] = "-exit";
    for (int i = 2; i < 10; i++)
        argv[i] = text;
    pid_t child;
    int error = posix_spawn(&child, self, NULL, NULL, argv, argv + 2);
    errno = error;
    started(error ? -1 : child);
}
/* Short ones, of each of which the LibOS keeps more than its bytes. Made while there is memory. */
static char *many[180000];
static void step_many_arguments(void) {
    pid_t child;
    int error = posix_spawn(&child, self, NULL, NULL, many, nothing);
    errno = error;
    started(error ? -1 : child);
}
static void step_thread(void) {
    pthread_t thread;
    int error = pthread_create(&thread, NULL, idle, NULL);
    errno = error;
    expect(error == 0);
    if (error == 0)
        CHECK(pthread_join(thread, NULL) == 0);
}
static void step_pipe(void) {
    int fd[2];
    static char text[1 << 16];
    if (pipe2(fd, O_NONBLOCK) < 0) {
        expect(0);
        return;
    }
    expect(write(fd[1], text, sizeof text) > 0);
    expect(fcntl(fd[1], F_SETPIPE_SZ, 1 << 20) > 0);
    close(fd[0]), close(fd[1]);
}
static void step_socket(void) {
    int fd[2];
    static char text[1 << 16];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fd) < 0) {
        expect(0);
        return;
    }
    expect(write(fd[1], text, sizeof text) > 0);
    close(fd[0]), close(fd[1]);
}
static void step_descriptors(void) {
    int fd = dup2(0, 1000);
    expect(fd == 1000);
    if (fd == 1000)
        close(fd);
    int epoll = epoll_create1(0);
    expect(epoll >= 0);
    if (epoll >= 0)
        close(epoll);
}
static void step_file(void) {
    static char text[1 << 18];
    int fd = memfd_create("exhaust", 0);
    if (fd < 0) {
        expect(0);
        return;
    }
    expect(write(fd, text, sizeof text) > 0);
    char *p = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    expect(p != MAP_FAILED);
    if (p != MAP_FAILED)
        munmap(p, 4 * PAGE);
    close(fd);
}
/* The LibOS keeps more of each file to wait for than its bytes. Made while there is memory. */
static struct pollfd nobody[1 << 18];
static void step_poll(void) {
    expect(poll(nobody, sizeof nobody / sizeof *nobody, 0) == 0);
}
static void (*const steps[])(void) = {step_fork, step_vfork_exec, step_spawn, step_long_arguments, step_many_arguments, step_thread,
    step_pipe, step_socket, step_descriptors, step_file, step_poll};

/* All steps while less and less is left. Runs in a child: the hog's memory goes with it. */
static void squeeze(void) {
    struct rlimit most = {1 << 20, 1 << 20};
    CHECK(setrlimit(RLIMIT_NOFILE, &most) == 0);
    for (unsigned i = 0; i < sizeof nobody / sizeof *nobody; i++)
        nobody[i].fd = -1;
    static const long left_kb[] = {6000, 3000, 2500, 2200, 2048, 1900, 1500, 1000, 600, 300, 150, 80, 40, 16, 0};
    for (unsigned i = 0; i < sizeof left_kb / sizeof *left_kb; i++) {
        hog(left_kb[i]);
        for (unsigned n = 0; n < sizeof steps / sizeof *steps; n++)
            steps[n]();
    }
}
/* What a group leaves when its leader was what ran out: orphans are ours, this is the first process. */
static void end_orphans(pid_t group) {
    kill(-group, SIGKILL);
    while (waitpid(-group, NULL, 0) > 0)
        ;
}
static void squeeze_in_a_child(void) {
    pid_t child = fork_clean();
    CHECK(child >= 0);
    if (child == 0) {
        setpgid(0, 0);
        squeeze();
        fflush(stdout);
        _exit(guest_failures > 100 ? 100 : guest_failures);
    }
    setpgid(child, child);
    int status;
    CHECK(waitpid(child, &status, 0) == child);
    end_orphans(child);
    if (!WIFSIGNALED(status) && WEXITSTATUS(status) != 0)
        printf("the hog: exit %d\n", WEXITSTATUS(status));
    /* The hog itself may be what runs out, after all its steps were well. */
    CHECK(WIFSIGNALED(status) ? WTERMSIG(status) == SIGKILL : WEXITSTATUS(status) == 0);
}

/* The LibOS' own memory goes: into objects of each kind, until one more is refused. */
static char block[1 << 18];
static void fill_file(void) {
    int fd = memfd_create("hog", 0);
    for (size_t size = sizeof block; fd >= 0 && size >= 4096; size /= 2)
        while (write(fd, block, size) == (ssize_t)size)
            ;
    expect(0);
}
static void fill_pipes(void) {
    int pair[2];
    while (pipe2(pair, O_NONBLOCK) == 0)
        while (write(pair[1], block, 4096) == 4096)
            ;
    expect(errno == EMFILE);
}
static void fill_sockets(void) {
    int pair[2];
    while (socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, pair) == 0)
        while (send(pair[1], block, 100, 0) == 100)
            ;
    expect(errno == EMFILE);
}
static void fill_descriptors(void) {
    while (dup(0) >= 0)
        ;
    descriptors_end = errno == EMFILE;
    expect(0);
}
static void fill_epoll(void) {
    int epoll = epoll_create1(0), pair[2];
    struct epoll_event event = {EPOLLIN, {.u32 = 1}};
    while (epoll >= 0 && pipe2(pair, O_NONBLOCK) == 0)
        if (epoll_ctl(epoll, EPOLL_CTL_ADD, pair[0], &event) < 0)
            break;
    expect(errno == EMFILE);
}
static void fill_timers(void) {
    timer_t timer;
    while (syscall(SYS_timer_create, CLOCK_MONOTONIC, NULL, &timer) == 0)
        ;
    expect(0);
}
static void fill_locks(void) {
    int fd = memfd_create("locked", 0);
    for (int i = 0; i < 3000; i++) {
        struct flock lock = {.l_type = F_WRLCK, .l_start = 2 * i, .l_len = 1};
        if (fcntl(fd, F_SETLK, &lock) < 0) {
            expect(fd < 0 || errno == ENOLCK);
            break;
        }
    }
}
static void fill_directories(void) {
    char path[300];
    for (int i = 0; i < 30000; i++) {
        snprintf(path, sizeof path, "/tmp/%0200d", i);
        if (mkdir(path, 0700) < 0) {
            expect(0);
            break;
        }
    }
}
static void fill_mappings(void) {
    for (int i = 0; i < 100000; i++)
        if (mmap(NULL, PAGE, i % 2 ? PROT_READ : PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED) {
            expect(0);
            break;
        }
}
static void fill_children(void) {
    for (;;) {
        pid_t child = fork();
        if (child == 0) {
            pause();
            _exit(0);
        }
        if (child < 0)
            break;
    }
    expect(0);
}
static void (*const fillers[])(void) = {fill_file, fill_pipes, fill_sockets, fill_descriptors, fill_epoll, fill_timers, fill_locks,
    fill_directories, fill_mappings, fill_children};
enum { FILLERS = sizeof fillers / sizeof *fillers };

/* Texts and lists that get longer than what is left, or fail. */
static void read_all(const char *path) {
    int fd = open(path, O_RDONLY);
    expect(fd >= 0);
    while (fd >= 0 && read(fd, block, sizeof block) > 0)
        ;
    close(fd);
}
static void list_all(const char *path) {
    DIR *d = opendir(path);
    errno = 0;
    while (d && readdir(d))
        ;
    expect(errno == 0);
    if (d)
        closedir(d);
}
static void many_descriptors(void) {
    struct rlimit most = {1 << 20, 1 << 20};
    CHECK(setrlimit(RLIMIT_NOFILE, &most) == 0);
    int spare = dup(0);
    while (dup(0) >= 0)
        ;
    close(spare);
    hog(100);
    list_all("/proc/self/fd"), list_all("/proc/self/fdinfo");
    CHECK(syscall(SYS_close_range, 3, ~0u, 0) == 0);
}
static void many_mappings(void) {
    for (int i = 0; i < 60000; i++)
        if (mmap(NULL, PAGE, PROT_READ | i % 2 * PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED)
            break;
    for (int left = 20000; left >= 0; left -= 5000) {
        hog(left);
        read_all("/proc/self/smaps"), read_all("/proc/self/maps"), read_all("/proc/self/smaps_rollup"), read_all("/proc/self/status");
    }
}
/* All of them ready, and asked for at once. */
static void many_events(void) {
    struct rlimit most = {1 << 20, 1 << 20};
    CHECK(setrlimit(RLIMIT_NOFILE, &most) == 0);
    int ready = eventfd(1, 0), set = epoll_create1(0), n = 0;
    struct epoll_event event = {EPOLLIN, {0}};
    for (int fd; n < 50000 && (fd = dup(ready)) >= 0 && epoll_ctl(set, EPOLL_CTL_ADD, fd, &event) == 0;)
        n++;
    CHECK(n > 1000);
    size_t size = n * sizeof event;
    struct epoll_event *all = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    hog(100);
    int got = epoll_wait(set, all, n, 0);
    expect(got > 0);
}
static void many_names(void) {
    char path[300];
    for (int i = 0; i < 20000; i++) {
        snprintf(path, sizeof path, "/tmp/%0200d", i);
        if (mkdir(path, 0700) < 0)
            break;
    }
    hog(100);
    list_all("/tmp");
    int fd = open("/tmp", O_RDONLY | O_DIRECTORY);
    size_t size = 16 << 20;
    char *all = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    expect(all != MAP_FAILED && syscall(SYS_getdents64, fd, all, size) > 0);
    close(fd);
}
CASE(long_lists) {
    static void (*const all[])(void) = {many_descriptors, many_mappings, many_names, many_events};
    for (unsigned i = 0; i < sizeof all / sizeof *all; i++) {
        pid_t child = fork_clean();
        if (child == 0) {
            all[i]();
            fflush(stdout);
            _exit(guest_failures != 0);
        }
        int status;
        CHECK(waitpid(child, &status, 0) == child);
        /* What it touches may have no room either. */
        CHECK(status == 0 || WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    }
    puts("done");
}

static void remove_the_directories(void) {
    char path[300];
    for (int i = 0; i < 30000; i++) {
        snprintf(path, sizeof path, "/tmp/%0200d", i);
        if (rmdir(path) < 0)
            break;
    }
}
static void fill_in_a_child(int first) {
    pid_t child = fork_clean();
    CHECK(child >= 0);
    if (child == 0) {
        /* Its children end with it, when it has ended them or been killed itself. */
        prctl(PR_SET_CHILD_SUBREAPER, 1);
        setpgid(0, 0);
        struct rlimit many = {1 << 20, 1 << 20};
        setrlimit(RLIMIT_NOFILE, &many);
        for (int i = 0; i < FILLERS; i++)
            fillers[(first + i) % FILLERS]();
        for (unsigned n = 0; n < sizeof steps / sizeof *steps; n++)
            steps[n]();
        fflush(stdout);
        _exit(guest_failures > 100 ? 100 : guest_failures);
    }
    setpgid(child, child);
    int status;
    CHECK(waitpid(child, &status, 0) == child);
    end_orphans(child);
    if (WIFSIGNALED(status) ? WTERMSIG(status) != SIGKILL : WEXITSTATUS(status) != 0) {
        printf("filling, first %d: status %#x\n", first, status);
        guest_failures++;
    }
    remove_the_directories(); /* what the file system keeps outlives the process */
}
static void fill_each_first(void) {
    for (int first = 0; first < FILLERS; first++) {
        fill_in_a_child(first);
    }
}

static int neighbour_works(int fd) {
    char c;
    long sum = 0;
    for (long n = 0; read(fd, &c, 1) == 1; n++)
        for (int i = 0; i < 1000; i++)
            sum += i * n;
    return sum != 0;
}

/* Runs `squander` until pools that stay are filled (stacks, translations, tables), then again: nothing may be lost. */
static void compare(void (*squander)(void)) {
    /* Whoever asks for the page that is not there ends, not the largest: the hog is to stay. */
    never_the_victim();
    static char buffer[1 << 12];
    setvbuf(stdout, buffer, _IOLBF, sizeof buffer);
    self = "/proc/self/exe";
    for (unsigned i = 0; i < sizeof many / sizeof *many - 1; i++)
        many[i] = i == 1 ? "-exit" : "x";
    int to_neighbour[2];
    CHECK(pipe2(to_neighbour, O_CLOEXEC) == 0);
    pid_t neighbour = fork_clean();
    if (neighbour == 0) {
        close(to_neighbour[1]);
        _exit(neighbour_works(to_neighbour[0]) ? 42 : 1);
    }
    CHECK(write(to_neighbour[1], "..", 2) == 2);
    squander();
    counters(); /* what it takes to ask */
    struct counters before = counters();
    for (int round = 0; round < ROUNDS; round++) {
        squander();
        CHECK(write(to_neighbour[1], ".", 1) == 1);
    }
    struct counters after = counters();
    printf("slots %+ld shared pages %+ld processes %+ld tasks %+ld files %+ld\n", after.slots - before.slots,
        after.shared_pages - before.shared_pages, after.processes - before.processes, after.tasks - before.tasks,
        after.open_files - before.open_files);
    long pages_kb = after.taken_kb - before.taken_kb, heap_kb = after.heap_kb - before.heap_kb;
    fprintf(stderr, "lost: %ld KiB of pages, %ld KiB of heap\n", pages_kb, heap_kb);
    /* A few pages of this process itself may be new. The heap keeps tables that grew; a leak would be some for each child. */
    CHECK(pages_kb <= 64);
    CHECK(heap_kb < 128);
    close(to_neighbour[1]);
    report("neighbour", neighbour);
}

CASE(pages_run_out) {
    compare(squeeze_in_a_child);
}

CASE(the_libos_runs_out) {
    compare(fill_each_first);
}

/* Takes a part of what is there now and says so; then waits. */
static pid_t holder(long percent, const char *adj) {
    int ready[2];
    char c;
    CHECK(pipe(ready) == 0);
    long kb = counters().available_kb;
    pid_t child = fork_clean();
    if (child == 0) {
        CHECK(adjust(adj));
        hog(kb - kb * percent / 100);
        write(ready[1], "x", 1);
        sleep_ms(60000);
        _exit(0);
    }
    read(ready[0], &c, 1);
    close(ready[0]);
    close(ready[1]);
    return child;
}
static pid_t grower(long kb) {
    pid_t child = fork_clean();
    if (child == 0) {
        char *p = mmap(NULL, (size_t)kb * 1024, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        for (long i = 0; p != MAP_FAILED && i < kb * 1024; i += PAGE)
            p[i] = 1;
        _exit(7);
    }
    return child;
}

/* When pages end, the largest process does, not the one that asks for the next page: as its neighbours agree. */
CASE(the_largest_ends) {
    long half = counters().available_kb / 2;
    pid_t large = holder(65, "0");
    report("grower", grower(half));
    report("large", large);
    large = holder(65, "-1000");
    report("grower", grower(half));
    kill(large, SIGTERM);
    report("protected", large);
    pid_t small = holder(20, "900");
    large = holder(60, "0");
    report("grower", grower(counters().available_kb + 8 * 1024));
    report("first", small);
    kill(large, SIGTERM);
    report("large", large);
    CHECK(!adjust("1001") && !adjust("x"));
}

/* A name that is made and removed over a directory of the host leaves nothing for good; one below stays hidden. */
CASE(names_leave_nothing) {
    char name[64], other[64];
    CHECK(chdir(getenv("PLACE")) == 0);
    CHECK(rename("below", "moved") == 0 && unlink("moved") == 0 && close(open("below", O_CREAT | O_EXCL | O_WRONLY, 0600)) == 0);
    CHECK(unlink("below") == 0);
    long before = counters().heap_kb;
    for (int i = 0; i < 20000; i++) {
        snprintf(name, sizeof name, "some-name-%d", i);
        snprintf(other, sizeof other, "another-name-%d", i);
        CHECK(close(open(name, O_CREAT | O_EXCL | O_WRONLY, 0600)) == 0);
        CHECK(link(name, other) == 0 && unlink(name) == 0 && rename(other, name) == 0 && unlink(name) == 0);
        CHECK(symlink("x", other) == 0 && unlink(other) == 0 && mkdir(other, 0700) == 0 && rmdir(other) == 0);
    }
    long grown = counters().heap_kb - before;
    if (grown > 1500)
        printf("grown by %ld KiB\n", grown);
    CHECK(access("below", F_OK) != 0 && errno == ENOENT && access("moved", F_OK) != 0);
    puts("done");
}

__attribute__((constructor(101))) static void only_exit(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], "-exit") == 0)
        _exit(0);
}
