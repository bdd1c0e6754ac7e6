/* Capabilities: capset's rules, what ids and exec do to the sets, and what each allows. As another user than root there
 * is nothing to give away: the cases then only look. */
#include "guest.h"
#include <arpa/inet.h>
#include <linux/capability.h>
#include <pthread.h>
#include <sys/fsuid.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/utsname.h>

struct sets {
    uint64_t effective, permitted, inheritable;
};

static struct sets get(void) {
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct d[2] = {0};
    CHECK(syscall(SYS_capget, &header, d) == 0);
    return (struct sets){d[0].effective | (uint64_t)d[1].effective << 32,
                         d[0].permitted | (uint64_t)d[1].permitted << 32,
                         d[0].inheritable | (uint64_t)d[1].inheritable << 32};
}

static long set(struct sets s) {
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct d[2] = {{s.effective, s.permitted, s.inheritable},
                                          {s.effective >> 32, s.permitted >> 32, s.inheritable >> 32}};
    return syscall(SYS_capset, &header, d);
}

static uint64_t bit(int cap) {
    return 1ull << cap;
}

CASE(headers) {
    struct __user_cap_header_struct header = {0x12345678, 0};
    struct __user_cap_data_struct d[2] = {0};
    CHECK(syscall(SYS_capget, &header, NULL) == 0 && header.version == _LINUX_CAPABILITY_VERSION_3);
    header.version = 1;
    CHECK_ERRNO(syscall(SYS_capget, &header, d), EINVAL);
    header.version = 1;
    CHECK_ERRNO(syscall(SYS_capset, &header, d), EINVAL);
    header.pid = getpid() + 100000000;
    CHECK_ERRNO(syscall(SYS_capget, &header, d), ESRCH);
    CHECK_ERRNO(syscall(SYS_capset, &header, d), EPERM);
    header.pid = -1;
    CHECK_ERRNO(syscall(SYS_capget, &header, d), EINVAL);
    CHECK_ERRNO(syscall(SYS_capget, NULL, d), EFAULT);
}

CASE(nothing_comes_back) {
    struct sets s = get();
    CHECK(set(s) == 0);
    s.effective &= ~bit(CAP_CHOWN);
    CHECK(set(s) == 0 && get().effective == s.effective);
    s.permitted &= ~bit(CAP_CHOWN);
    CHECK(set(s) == 0 && get().permitted == s.permitted);
    struct sets more = s;
    more.permitted |= bit(CAP_CHOWN);
    CHECK_ERRNO(set(more), EPERM);
    more = s;
    more.effective |= bit(CAP_CHOWN);
    CHECK_ERRNO(set(more), EPERM);
    CHECK(get().permitted == s.permitted && get().effective == s.effective);
}

CASE(each_right_by_itself) {
    if (geteuid() != 0)
        return;
    int fd = open("/tmp", O_TMPFILE | O_RDWR, 0600);
    struct sets s = get();
    s.effective = bit(CAP_SETUID);
    CHECK(set(s) == 0);
    CHECK_ERRNO(fchown(fd, 12, 12), EPERM);
    CHECK_ERRNO(setgid(12), EPERM);
    CHECK_ERRNO(chroot("/"), EPERM);
    CHECK_ERRNO(prctl(PR_CAPBSET_DROP, CAP_CHOWN), EPERM);
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(7)};
    int s4 = socket(AF_INET, SOCK_STREAM, 0);
    CHECK_ERRNO(bind(s4, (void *)&at, sizeof at), EACCES);
    s.effective |= bit(CAP_CHOWN) | bit(CAP_SETGID);
    CHECK(set(s) == 0 && fchown(fd, 12, 12) == 0 && setgid(12) == 0 && setuid(12) == 0);
    CHECK(get().effective == 0 && get().permitted == 0);
    CHECK_ERRNO(setuid(0), EPERM);
}

CASE(ids_take_them) {
    if (geteuid() != 0)
        return;
    struct sets all = get();
    CHECK(seteuid(99) == 0 && get().effective == 0 && get().permitted == all.permitted);
    CHECK(seteuid(0) == 0 && get().effective == all.permitted);
    CHECK(prctl(PR_SET_KEEPCAPS, 1) == 0 && prctl(PR_GET_KEEPCAPS) == 1);
    CHECK(setresuid(99, 99, 99) == 0 && get().effective == 0 && get().permitted == all.permitted);
    struct sets s = {bit(CAP_SETUID), bit(CAP_SETUID), 0};
    CHECK(set(s) == 0 && setresuid(0, 0, 0) == 0);
    CHECK(get().effective == s.permitted && get().permitted == s.permitted);
}

/* What a program that this one executes has. */
static void show_after_exec(const char *what) {
    pid_t child = fork_clean();
    if (child == 0) {
        execl("/bin/sh", "sh", "-c", "while read k v; do case $k in Cap[IPEA]*) echo $k $v;; esac; done < /proc/self/status",
              NULL);
        _exit(127);
    }
    report(what, child);
}

CASE(exec_and_the_bounding_set) {
    if (geteuid() != 0)
        return;
    CHECK_ERRNO(prctl(PR_CAPBSET_READ, 63), EINVAL);
    CHECK_ERRNO(prctl(PR_CAPBSET_DROP, 63), EINVAL);
    for (int cap = 2; cap <= CAP_LAST_CAP; cap++)
        CHECK(prctl(PR_CAPBSET_DROP, cap) == 0 && prctl(PR_CAPBSET_READ, cap) == 0);
    CHECK(prctl(PR_CAPBSET_READ, 0) == 1);
    show_after_exec("root");
    CHECK_ERRNO(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_CHOWN, 0, 0), EPERM);
    struct sets s = get();
    s.inheritable = bit(CAP_CHOWN);
    CHECK(set(s) == 0 && prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_CHOWN, 0, 0) == 0);
    CHECK(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, CAP_CHOWN, 0, 0) == 1);
    CHECK_ERRNO(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 1, 0, 0), EINVAL);
    CHECK(prctl(PR_SET_KEEPCAPS, 1) == 0 && setresuid(99, 99, 99) == 0);
    CHECK(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, CAP_CHOWN, 0, 0) == 0);
    show_after_exec("user");
    CHECK(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_CHOWN, 0, 0) == 0);
    show_after_exec("user with an ambient one");
}

/* What the status file calls the ids: real, effective, saved, for files. */
static void show_ids(const char *what) {
    char text[4000] = "", *line;
    int fd = open("/proc/self/status", O_RDONLY);
    CHECK(fd >= 0 && read(fd, text, sizeof text - 1) > 0);
    close(fd);
    for (int n = 0; n < 2; n++)
        if ((line = strstr(text, n ? "Gid:" : "Uid:")))
            printf("%s %.*s\n", what, (int)strcspn(line, "\n"), line);
}
CASE(ids_for_files) {
    if (geteuid() != 0)
        return;
    char place[] = "/tmp/idsXXXXXX", name[64], own[64];
    CHECK(mkdtemp(place) && chmod(place, 0777) == 0);
    snprintf(name, sizeof name, "%s/of-root", place), snprintf(own, sizeof own, "%s/own", place);
    close(open(name, O_CREAT | O_WRONLY, 0600));
    CHECK(setfsuid(-1) == 0 && setfsgid(-1) == 0);
    CHECK(setfsgid(77) == 0 && setfsgid(-1) == 77 && setfsuid(1234) == 0 && setfsuid(-1) == 1234);
    show_ids("set");
    struct sets s = get();
    printf("effective %#lx permitted %#lx\n", s.effective & 0x3ff, s.permitted & 0x3ff);
    CHECK_ERRNO(open(name, O_RDONLY), EACCES);
    CHECK(access(name, R_OK) == 0); /* as the real user */
    struct stat st;
    CHECK(close(open(own, O_CREAT | O_WRONLY, 0600)) == 0 && stat(own, &st) == 0 && st.st_uid == 1234 && st.st_gid == 77);
    CHECK(kill(getpid(), 0) == 0 && geteuid() == 0);
    CHECK(setfsuid(0) == 1234);
    CHECK(close(open(name, O_RDONLY)) == 0);
    s = get();
    printf("back: effective %#lx\n", s.effective & 0x3ff);
    /* They follow the effective ids, and exec. */
    CHECK(setfsuid(5) == 0 && setresgid(6, 7, 8) == 0 && setresuid(9, 10, 11) == 0);
    show_ids("followed");
    CHECK(setfsuid(12) == 10 && setfsuid(9) == 10 && setfsuid(11) == 9 && setfsgid(12) == 7 && setfsgid(6) == 7);
    show_ids("among its own");
    fflush(stdout);
    pid_t child = fork();
    if (child == 0)
        execl("/bin/grep", "grep", "[UG]id", "/proc/self/status", NULL), _exit(9);
    report("exec", child);
    chmod(place, 0700);
    unlink(own), unlink(name), rmdir(place);
}

/* Natively these are the machine's own names: they are only set to what they are. */
CASE(names_of_the_machine) {
    struct utsname u;
    CHECK(uname(&u) == 0);
    struct sets s = get();
    if (s.effective & bit(CAP_SYS_ADMIN)) {
        CHECK_ERRNO(sethostname(u.nodename, 65), EINVAL);
        CHECK_ERRNO(sethostname(u.nodename, -1), EINVAL);
        CHECK_ERRNO(syscall(SYS_sethostname, NULL, 3), EFAULT);
        CHECK_ERRNO(setdomainname(u.nodename, 65), EINVAL);
        CHECK(sethostname(u.nodename, strlen(u.nodename)) == 0);
        struct utsname after;
        CHECK(uname(&after) == 0 && memcmp(&after, &u, sizeof u) == 0);
    }
    s.effective &= ~bit(CAP_SYS_ADMIN);
    CHECK(set(s) == 0);
    CHECK_ERRNO(sethostname(u.nodename, strlen(u.nodename)), EPERM);
    CHECK_ERRNO(setdomainname("x", 1), EPERM);
}

static int ready[2], go[2];
static pid_t id_of_other;
static volatile int other_is_right;

static void meet(int to, int from) {
    char c = 1;
    CHECK(write(to, &c, 1) == 1 && read(from, &c, 1) == 1);
}
static void *child_of_other(void *unused) {
    uid_t r, e, s;
    other_is_right &= getresuid(&r, &e, &s) == 0 && r == 1234 && e == 1234 && s == 1234;
    return unused;
}
/* Its ids and sets change by the bare calls, as the kernel has them: those of the caller alone. */
static void *other_thread(void *unused) {
    id_of_other = gettid();
    /* What libc does is for all threads. */
    meet(ready[1], go[0]);
    other_is_right = getegid() == 4321;
    meet(ready[1], go[0]);
    struct sets s = get();
    s.effective &= ~bit(CAP_CHOWN), s.permitted &= ~bit(CAP_CHOWN);
    other_is_right &= getegid() == 0 && set(s) == 0 && get().permitted == s.permitted;
    meet(ready[1], go[0]);
    other_is_right &= syscall(SYS_setgroups, 0, NULL) == 0 && syscall(SYS_setresgid, 1234, 1234, 1234) == 0;
    other_is_right &= syscall(SYS_setresuid, 1234, 1234, 1234) == 0 && getuid() == 1234 && get().effective == 0;
    other_is_right &= open("private", O_RDONLY) < 0 && errno == EACCES;
    pthread_t t;
    pthread_create(&t, NULL, child_of_other, NULL);
    pthread_join(t, NULL);
    pid_t child = fork();
    if (child == 0)
        _exit(getuid() == 1234 && getgid() == 1234 ? 7 : 8);
    int status;
    other_is_right &= waitpid(child, &status, 0) == child && WEXITSTATUS(status) == 7;
    meet(ready[1], go[0]);
    return unused;
}
static int uid_in(const char *format, int id) {
    char name[60], text[2000] = "";
    snprintf(name, sizeof name, format, id);
    int fd = open(name, O_RDONLY), uid = -1;
    CHECK(fd >= 0 && read(fd, text, sizeof text - 1) > 0);
    sscanf(strstr(text, "\nUid:"), "\nUid: %d", &uid);
    close(fd);
    return uid;
}

CASE(ids_of_threads) {
    if (geteuid() != 0)
        return;
    char directory[] = "/tmp/occlum-rights-XXXXXX";
    CHECK(mkdtemp(directory) && chmod(directory, 0755) == 0 && chdir(directory) == 0);
    CHECK(close(open("private", O_CREAT | O_WRONLY, 0600)) == 0 && pipe(ready) == 0 && pipe(go) == 0);
    pthread_t other;
    char c = 1;
    CHECK(pthread_create(&other, NULL, other_thread, NULL) == 0);
    CHECK(read(ready[0], &c, 1) == 1 && setresgid(4321, 4321, 4321) == 0);
    meet(go[1], ready[0]);
    CHECK(setresgid(0, 0, 0) == 0);
    meet(go[1], ready[0]);
    CHECK(other_is_right);
    CHECK(get().permitted & bit(CAP_CHOWN) && chown("private", 1, 1) == 0 && chown("private", 0, 0) == 0);
    meet(go[1], ready[0]);
    CHECK(other_is_right && getuid() == 0 && getegid() == 0 && get().effective & bit(CAP_SETUID));
    CHECK(close(open("private", O_RDONLY)) == 0);
    CHECK(uid_in("/proc/%d/status", getpid()) == 0 && uid_in("/proc/self/task/%d/status", id_of_other) == 1234);
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, id_of_other};
    struct __user_cap_data_struct d[2] = {{1, 1, 1}, {1, 1, 1}};
    CHECK(syscall(SYS_capget, &header, d) == 0 && d[0].permitted == 0 && d[1].effective == 0);
    /* The first thread's change leaves the others alone, too. */
    CHECK(syscall(SYS_setresuid, 0, 5678, 0) == 0 && geteuid() == 5678 && syscall(SYS_setresuid, 0, 0, 0) == 0);
    CHECK(write(go[1], &c, 1) == 1 && pthread_join(other, NULL) == 0);
    unlink("private"), rmdir(directory);
    printf("%d\n", other_is_right);
}
