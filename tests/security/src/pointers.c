/* System calls with pointers at every edge: prints each result, to be compared with the same program run natively.
 *
 * Pointers: null, the last bytes before an unmapped page, a read-only page, unmapped pages, and what lies above the
 * addresses of programs. Where Linux is free to move a part, or does it by accident of its buffers, only whole moves are
 * asked for.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096
static char *good, *read_only; /* Pages, each with an unmapped one behind. */
static int file, pipes[2], zero;

static void show(const char *name, const char *where, long result) {
    printf("%s %s: %ld %s\n", name, where, result < 0 ? -1 : result, result < 0 ? strerrorname_np(errno) : "");
    fflush(stdout);
}

struct place {
    const char *name;
    uint64_t at;
};

/* A call with a pointer to `size` bytes as argument `n`; `a` are the others. */
struct call {
    const char *name;
    long nr;
    int n, size;
    uint64_t a[6];
    /* May move a part, or does not mind null or read-only memory. */
    int loose;
};

static void try_call(const struct call *c, struct place p) {
    uint64_t a[6];
    memcpy(a, c->a, sizeof a);
    a[c->n] = p.at;
    memset(good, 0, PAGE);
    lseek(file, 0, SEEK_SET);
    long r = syscall(c->nr, a[0], a[1], a[2], a[3], a[4], a[5]);
    int saved = errno;
    char extra[PAGE];
    fcntl(pipes[0], F_SETFL, O_NONBLOCK);
    while (read(pipes[0], extra, sizeof extra) > 0)
        ;
    errno = saved;
    show(c->name, p.name, r);
}

static void places(const struct call *c) {
    const struct place all[] = {
        { "null", 0 },
        { "one", 1 },
        { "end", (uint64_t)good + PAGE - c->size },
        { "one over", (uint64_t)good + PAGE - c->size + 1 },
        { "half over", (uint64_t)good + PAGE - c->size / 2 },
        { "all over", (uint64_t)good + PAGE },
        { "read-only", (uint64_t)read_only + PAGE - c->size },
        { "read-only and over", (uint64_t)read_only + PAGE - c->size + 1 },
        { "top of 32 bits", 0xffffffff },
        { "last page of 32 bits", 0xfffff000 },
        { "4 GiB", 0x7f0000000000ull << 1 },
        { "kernel", 0xffffffff81000000ull },
        { "last", ~0ull },
        { "last page", ~0xfffull },
        { "wraps", 0ull - c->size / 2 },
    };
    for (unsigned i = 0; i < sizeof all / sizeof *all; i++)
        if (!c->loose || !strstr("one over half over read-only and over null", all[i].name))
            try_call(c, all[i]);
}

static void simple(void) {
    const struct call calls[] = {
        { "read", SYS_read, 1, 64, { file, 0, 64 } },
        { "read zeros", SYS_read, 1, 5000, { zero, 0, 5000 } },
        { "pread", SYS_pread64, 1, 64, { file, 0, 64, 3 } },
        { "write", SYS_write, 1, 64, { pipes[1], 0, 64 }, 1 },
        { "pipe2", SYS_pipe2, 0, 8, { 0, O_CLOEXEC } },
        { "fstat", SYS_fstat, 1, 144, { file, 0 } },
        { "uname", SYS_uname, 0, 390, { 0 } },
        { "clock_gettime", SYS_clock_gettime, 1, 16, { CLOCK_REALTIME } },
        { "nanosleep", SYS_nanosleep, 0, 16, { 0, 0 } },
        { "getrlimit", SYS_prlimit64, 3, 16, { 0, RLIMIT_CORE, 0 } },
        { "sigprocmask in", SYS_rt_sigprocmask, 1, 8, { SIG_BLOCK, 0, 0, 8 } },
        { "sigprocmask out", SYS_rt_sigprocmask, 2, 8, { SIG_BLOCK, 0, 0, 8 } },
        { "sigaction in", SYS_rt_sigaction, 1, 32, { SIGUSR1, 0, 0, 8 } },
        { "sigaction out", SYS_rt_sigaction, 2, 32, { SIGUSR1, 0, 0, 8 } },
        { "getrandom", SYS_getrandom, 0, 100, { 0, 100, 0 }, 1 },
        { "getcwd", SYS_getcwd, 0, 2, { 0, 2 } },
        { "poll", SYS_poll, 0, 24, { 0, 3, 0 } },
        { "futex", SYS_futex, 0, 4, { 0, 1, 1 }, 1 },
        { "getitimer", SYS_getitimer, 1, 32, { 0 }, 1 },
        { "sigaltstack", SYS_sigaltstack, 1, 24, { 0 } },
        { "wait4", SYS_wait4, 3, 144, { -1, 0, 0, 0 } },
        { "socketpair", SYS_socketpair, 3, 8, { AF_UNIX, SOCK_STREAM, 0, 0 } },
        { "readv", SYS_readv, 1, 32, { file, 0, 2 } },
        { "writev", SYS_writev, 1, 32, { pipes[1], 0, 2 } },
        { "set_robust_list", SYS_set_robust_list, 0, 24, { 0, 24 } },
    };
    for (unsigned i = 0; i < sizeof calls / sizeof *calls; i++)
        places(calls + i);
}

/* Vectors whose elements are bad, too long, or too many. */
static void vectors(void) {
    struct iovec v[1030];
    char buf[64] = "";
    const struct {
        const char *name;
        struct iovec second;
    } cases[] = {
        { "good", { buf, 8 } },
        { "bad base", { (void *)16, 8 } },
        { "over the end", { good + PAGE - 4, 8 } },
        { "negative length", { buf, -1 } },
        { "nothing, badly", { (void *)16, 0 } },
    };
    for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
        v[0] = (struct iovec){ buf, 8 }, v[1] = cases[i].second;
        lseek(file, 0, SEEK_SET);
        show("readv elements", cases[i].name, readv(file, v, 2));
    }
    /* More than one call moves. */
    int null = open("/dev/null", O_WRONLY);
    v[0] = v[1] = (struct iovec){ good, 0x70000000 };
    show("writev much", "two", writev(null, v, 2));
    show("writev much", "one", writev(null, v, 1)), close(null);
    for (int i = 0; i < 1030; i++)
        v[i] = (struct iovec){ buf, 1 };
    for (int n = 1023; n < 1027; n++) {
        lseek(file, 0, SEEK_SET);
        show("readv many", n == 1024 ? "1024" : n < 1024 ? "less" : "more", syscall(SYS_readv, file, v, n));
    }
}

/* More than a part of the machinery takes at once, and less than it has. */
static void lengths(void) {
    char *plenty = mmap(NULL, 2 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    static char buf[256]; /* low, so that Linux lets its vectors be long */
    char back[256];
    int null = open("/dev/null", O_WRONLY);
    struct iovec longest[2] = { { buf, 8 }, { buf + 8, INT64_MAX } }, two[2] = { { buf, 0x7fffffff }, { buf, 0x7fffffff } };
    lseek(file, 5990, SEEK_SET);
    show("readv", "longest length", readv(file, longest, 2));
    show("writev", "more than fits", writev(null, two, 2));
    write(pipes[1], buf, 200);
    show("read", "a part of a pipe", read(pipes[0], back, 10));
    show("read", "the rest", read(pipes[0], back, 200));
    int text = open("/proc/self/status", O_RDONLY);
    show("read", "a part of a text", read(text, back, 7));
    int copy = open("/tmp/pointers-copy", O_RDWR | O_CREAT | O_TRUNC, 0600);
    struct iovec pieces[3] = { { buf, 10 }, { buf + 20, 1 }, { buf + 40, 100 } };
    show("writev", "pieces", writev(copy, pieces, 3));
    unlink("/tmp/pointers-copy");
    static struct iovec cold[1024];
    for (int i = 0; i < 1024; i++)
        cold[i] = (struct iovec){ plenty, 2 << 20 };
    int self = syscall(SYS_pidfd_open, getpid(), 0);
    show("process_madvise", "more than fits", syscall(SYS_process_madvise, self, cold, 1024, MADV_COLD, 0));
}

/* Strings that end at the end, or not at all, or are too long. */
static void strings(void) {
    struct stat st;
    memset(good, 'x', PAGE);
    show("stat", "no end", stat(good + PAGE - 20, &st));
    show("stat", "no end, long", stat(good, &st));
    memcpy(good + PAGE - 2, "/", 2);
    show("stat", "ends at the end", stat(good + PAGE - 2, &st));
    show("stat", "nothing", stat((char *)16, &st));
    show("stat", "kernel", stat((char *)0xffffffff81000000ull, &st));
    char space[6000], *path = (char *)(((uint64_t)space | 255) + 1);
    for (int at = 0; at < 4; at++)
        for (int n = 4094; n < 4099; n++) {
            memset(path + at, '/', n), path[at + n] = 0;
            printf("%d at %d ", n, at), show("stat", "long path", stat(path + at, &st));
        }
    for (int n = 4094; n < 4099; n++) {
        memset(path, '/', n), path[n] = 0;
        printf("%d ", n), show("stat", "long path", stat(path, &st));
    }
    for (int n = 254; n < 258; n++) {
        memset(path, 'n', n), path[n] = 0;
        printf("%d ", n), show("stat", "long name", stat(path, &st));
    }
    char link[8];
    symlink("0123456789", "/tmp/pointers-link");
    show("readlink", "cut", readlink("/tmp/pointers-link", link, 8));
    show("readlink", "nowhere", readlink("/tmp/pointers-link", (char *)16, 8));
    unlink("/tmp/pointers-link");
}

/* Arguments of a new program. */
static void arguments(void) {
    char *one[] = { "/bin/true", NULL }, *bad[] = { "/bin/true", (char *)16, NULL }, **over;
    over = (char **)(good + PAGE - 16);
    over[0] = over[1] = "x";
    show("execve", "bad string", execve("/bin/true", bad, NULL));
    show("execve", "bad environment", execve("/bin/true", one, bad));
    show("execve", "vector over the end", execve("/bin/true", over, NULL));
    show("execve", "no vector there", execve("/bin/true", (char **)16, NULL));
    show("execve", "no path", execve((char *)16, one, NULL));
    char *big = malloc(140000);
    memset(big, 'x', 140000), big[131072] = 0;
    char *huge[] = { "/bin/true", big, NULL };
    show("execve", "long string", execve("/bin/true", huge, NULL));
    char *many[70];
    big[130000] = 0;
    for (int i = 0; i < 69; i++)
        many[i] = big;
    many[69] = NULL;
    show("execve", "too much", execve("/bin/true", many, NULL));
}

static char *page(void) {
    char *p = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    munmap(p + PAGE, PAGE);
    return p;
}

/* What must work. */
static void said(const char *self) {
    char *argv[] = { "pointers", "one", "", "three", NULL }, *envp[] = { "A=1", NULL };
    int status;
    if (fork() == 0) {
        execve(self, argv, envp);
        _exit(9);
    }
    show("execve", "good", wait(&status) > 0 ? status : -1);
    if (fork() == 0) {
        execve(self, NULL, envp);
        _exit(9);
    }
    show("execve", "no vector", wait(&status) > 0 ? status : -1);
}

int main(int argc, char **argv, char **envp) {
    char content[6000];
    if (argc > 1) {
        for (int i = 0; i < argc; i++)
            printf("argument %s\n", argv[i]);
        return printf("environment %s\n", envp[0]) < 0;
    }
    if (argc < 1 || argv[0][0] == 0)
        return printf("%d arguments\n", argc) < 0;
    good = page(), read_only = page();
    mprotect(read_only, PAGE, PROT_READ);
    zero = open("/dev/zero", O_RDONLY);
    file = open("/tmp/pointers", O_RDWR | O_CREAT | O_TRUNC, 0600);
    unlink("/tmp/pointers");
    memset(content, 'c', sizeof content);
    write(file, content, sizeof content);
    if (pipe(pipes))
        return 1;
    simple(), vectors(), lengths(), strings(), arguments(), said(argv[0]);
    return 0;
}
