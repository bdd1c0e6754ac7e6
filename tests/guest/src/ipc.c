/* System V shared memory, semaphores, message queues; POSIX message queues. */
#include "guest.h"
#include <mqueue.h>
#include <poll.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/socket.h>

static int attached(int id) {
    struct shmid_ds d;
    return shmctl(id, IPC_STAT, &d) == 0 ? (int)d.shm_nattch : -1;
}

CASE(shared_segments) {
    int id = shmget(IPC_PRIVATE, 10000, IPC_CREAT | 0640);
    struct shmid_ds d;
    CHECK(id >= 0 && shmctl(id, IPC_STAT, &d) == 0);
    printf("size %zu mode %o attached %d owner %d\n", d.shm_segsz, d.shm_perm.mode, (int)d.shm_nattch,
           d.shm_perm.uid == geteuid() && d.shm_perm.cuid == geteuid() && d.shm_cpid == getpid());
    char *p = shmat(id, NULL, 0), *q = shmat(id, NULL, SHM_RDONLY);
    CHECK(p != (void *)-1 && q != (void *)-1 && p != q && attached(id) == 2);
    strcpy(p, "seen twice");
    CHECK(strcmp(q, "seen twice") == 0 && p[9999] == 0);
    pid_t child = fork_clean();
    if (child == 0) {
        CHECK(attached(id) == 4);
        strcpy(p, "by the child");
        CHECK(shmdt(p) == 0 && attached(id) == 3);
        q[0] = 1;
        _exit(0);
    }
    report("writer to read-only", child);
    CHECK(strcmp(q, "by the child") == 0 && attached(id) == 2);
    CHECK_ERRNO(shmdt(p + 4096), EINVAL);
    CHECK_ERRNO(shmat(id, p, 0) == (void *)-1 ? -1 : 0, EINVAL);
    CHECK_ERRNO(shmat(id, p + 1, 0) == (void *)-1 ? -1 : 0, EINVAL);
    CHECK_ERRNO(shmat(id, NULL, SHM_REMAP) == (void *)-1 ? -1 : 0, EINVAL);
    CHECK(shmdt(q) == 0 && attached(id) == 1);
    CHECK(shmat(id, q, 0) == q && shmdt(q) == 0 && shmat(id, q + 100, SHM_RND) == q && shmdt(q) == 0);
    CHECK(shmat(id, p, SHM_REMAP) == p && strcmp(p, "by the child") == 0);
    d.shm_perm.mode = 0600;
    CHECK(shmctl(id, IPC_SET, &d) == 0 && shmctl(id, IPC_STAT, &d) == 0 && (d.shm_perm.mode & 0777) == 0600);
    CHECK(shmctl(id, IPC_RMID, NULL) == 0 && attached(id) == 1);
    CHECK(shmctl(id, IPC_STAT, &d) == 0 && (d.shm_perm.mode & SHM_DEST) && d.shm_perm.__key == 0);
    CHECK(strcmp(p, "by the child") == 0 && shmdt(p) == 0);
    CHECK_ERRNO(shmctl(id, IPC_STAT, &d), EINVAL);
    CHECK_ERRNO(shmat(id, NULL, 0) == (void *)-1 ? -1 : 0, EINVAL);
    CHECK_ERRNO(shmget(IPC_PRIVATE, 0, 0600), EINVAL);
    CHECK_ERRNO(shmctl(-1, IPC_STAT, &d), EINVAL);
    puts("done");
}

/* Attached read-only, a segment stays so: in pieces, elsewhere, and in a child. */
CASE(read_only_segments) {
    enum { PAGE = 4096 };
    int id = shmget(IPC_PRIVATE, 4 * PAGE, IPC_CREAT | 0600);
    char *rw = shmat(id, NULL, 0), *ro = shmat(id, NULL, SHM_RDONLY);
    CHECK(rw != (void *)-1 && ro != (void *)-1);
    memset(rw, 7, 4 * PAGE);
    CHECK_ERRNO(mprotect(ro, 4 * PAGE, PROT_READ | PROT_WRITE), EACCES);
    CHECK_ERRNO(madvise(ro, PAGE, MADV_REMOVE), EACCES);
    CHECK(mprotect(ro + PAGE, PAGE, PROT_NONE) == 0);
    for (int i = 0; i < 4; i++)
        CHECK_ERRNO(mprotect(ro + i * PAGE, PAGE, PROT_WRITE), EACCES);
    char *moved = mremap(ro + 2 * PAGE, PAGE, 2 * PAGE, MREMAP_MAYMOVE), *again = mremap(ro, 0, PAGE, MREMAP_MAYMOVE);
    CHECK(moved != MAP_FAILED && again != MAP_FAILED);
    CHECK_ERRNO(mprotect(moved, PAGE, PROT_WRITE), EACCES);
    CHECK_ERRNO(mprotect(again, PAGE, PROT_WRITE), EACCES);
    CHECK_ERRNO(madvise(moved, PAGE, MADV_REMOVE), EACCES);
    pid_t child = fork_clean();
    if (child == 0) {
        CHECK_ERRNO(mprotect(ro, PAGE, PROT_WRITE), EACCES);
        CHECK_ERRNO(mprotect(moved, PAGE, PROT_WRITE), EACCES);
        _exit(guest_failures);
    }
    report("child", child);
    CHECK(moved[0] == 7 && again[0] == 7 && madvise(rw, PAGE, MADV_REMOVE) == 0 && ro[0] == 0 && rw[PAGE] == 7);
    CHECK(shmctl(id, IPC_RMID, NULL) == 0);
}

CASE(segments_by_key) {
    key_t key = 0x51000000 + getpid();
    CHECK_ERRNO(shmget(key, 4096, 0600), ENOENT);
    int id = shmget(key, 5000, IPC_CREAT | IPC_EXCL | 0600);
    CHECK(id >= 0 && shmget(key, 0, 0) == id && shmget(key, 5000, 0) == id);
    CHECK_ERRNO(shmget(key, 5001, 0), EINVAL);
    CHECK_ERRNO(shmget(key, 1, IPC_CREAT | IPC_EXCL), EEXIST);
    FILE *f = fopen("/proc/sysvipc/shm", "r");
    char line[400];
    int found = 0;
    while (fgets(line, sizeof line, f)) {
        int k, i;
        found += sscanf(line, "%d %d", &k, &i) == 2 && k == key && i == id;
    }
    CHECK(found == 1);
    pid_t child = fork_clean();
    if (child == 0) {
        int *p = shmat(shmget(key, 0, 0), NULL, 0);
        *p = 77;
        _exit(0);
    }
    report("child", child);
    int *p = shmat(id, NULL, 0);
    CHECK(*p == 77 && shmctl(id, IPC_RMID, NULL) == 0);
    CHECK_ERRNO(shmget(key, 0, 0), ENOENT);
    puts("done");
}

static int value(int id, int n) { return semctl(id, n, GETVAL); }

CASE(semaphore_sets) {
    int id = semget(IPC_PRIVATE, 3, IPC_CREAT | 0600);
    struct semid_ds d;
    CHECK(id >= 0 && semctl(id, 0, IPC_STAT, &d) == 0 && d.sem_nsems == 3 && value(id, 2) == 0);
    unsigned short all[3] = {1, 2, 3}, got[3];
    CHECK(semctl(id, 0, SETALL, all) == 0 && semctl(id, 0, GETALL, got) == 0 && memcmp(all, got, sizeof all) == 0);
    struct sembuf both[] = {{0, -1, 0}, {1, -3, IPC_NOWAIT}};
    CHECK_ERRNO(semop(id, both, 2), EAGAIN);
    CHECK(value(id, 0) == 1);
    both[1].sem_op = -2;
    CHECK(semop(id, both, 2) == 0 && value(id, 0) == 0 && value(id, 1) == 0 && semctl(id, 1, GETPID) == getpid());
    struct sembuf zero = {0, 0, IPC_NOWAIT}, up = {0, 5, 0}, far = {3, 1, 0}, high = {2, 32767, 0};
    CHECK(semop(id, &zero, 1) == 0 && semop(id, &up, 1) == 0);
    CHECK_ERRNO(semop(id, &zero, 1), EAGAIN);
    CHECK_ERRNO(semop(id, &far, 1), EFBIG);
    CHECK_ERRNO(semop(id, &high, 1), ERANGE);
    CHECK_ERRNO(semop(id, &up, 0), EINVAL);
    struct sembuf many[501] = {0};
    CHECK_ERRNO(semop(id, many, 501), E2BIG);
    CHECK_ERRNO(semop(id, (void *)8, 1), EFAULT);
    CHECK_ERRNO(semctl(id, 9, GETVAL), EINVAL);
    /* Numbers are int: the high half of the register does not count. */
    CHECK(syscall(SYS_semctl, (1l << 32) | id, 1l << 32, (7l << 32) | SETVAL, (1l << 32) | 5) == 0 && value(id, 0) == 5);
    CHECK_ERRNO(semctl(id, 0, SETVAL, 40000), ERANGE);
    CHECK(semctl(id, 0, SETVAL, 9) == 0 && value(id, 0) == 9);
    pid_t child = fork_clean();
    if (child == 0) {
        struct sembuf undo[] = {{0, -4, SEM_UNDO}, {1, 2, SEM_UNDO}};
        CHECK(semop(id, undo, 2) == 0 && value(id, 0) == 5 && value(id, 1) == 2);
        _exit(0);
    }
    report("undoer", child);
    printf("after undo %d %d\n", value(id, 0), value(id, 1));
    key_t key = 0x52000000 + getpid();
    int named = semget(key, 1, IPC_CREAT | IPC_EXCL | 0600);
    CHECK(named >= 0 && semget(key, 1, 0) == named && semget(key, 0, 0) == named);
    CHECK_ERRNO(semget(key, 2, 0), EINVAL);
    CHECK_ERRNO(semget(key, 1, IPC_CREAT | IPC_EXCL), EEXIST);
    CHECK_ERRNO(semget(key + 1, 1, 0), ENOENT);
    CHECK_ERRNO(semget(IPC_PRIVATE, 0, 0600), EINVAL);
    CHECK_ERRNO(semget(IPC_PRIVATE, -1, 0600), EINVAL);
    CHECK(semctl(named, 0, IPC_RMID) == 0 && semctl(id, 0, IPC_RMID) == 0);
    CHECK_ERRNO(semop(id, &up, 1), EINVAL);
    puts("done");
}

static void nothing(int signal) {}

CASE(semaphores_wait) {
    int id = semget(IPC_PRIVATE, 2, 0600);
    struct sembuf down = {0, -1, 0}, up = {0, 1, 0}, zero = {1, 0, 0};
    pid_t child = fork_clean();
    if (child == 0) {
        CHECK(semop(id, &down, 1) == 0);
        _exit(0);
    }
    while (semctl(id, 0, GETNCNT) == 0) {
        sleep_ms(1);
    }
    CHECK(semctl(id, 0, GETZCNT) == 0 && semop(id, &up, 1) == 0);
    report("downer", child);
    CHECK(semctl(id, 0, GETNCNT) == 0 && value(id, 0) == 0);
    semctl(id, 1, SETVAL, 1);
    child = fork_clean();
    if (child == 0) {
        CHECK(semop(id, &zero, 1) == 0);
        _exit(0);
    }
    while (semctl(id, 1, GETZCNT) == 0) {
        sleep_ms(1);
    }
    struct sembuf off = {1, -1, 0};
    CHECK(semop(id, &off, 1) == 0);
    report("zeroer", child);
    struct timespec t = {0, 20000000}, bad = {0, 2000000000};
    int64_t start = now_ms();
    CHECK_ERRNO(semtimedop(id, &down, 1, &t), EAGAIN);
    CHECK(now_ms() - start >= 20);
    CHECK_ERRNO(semtimedop(id, &down, 1, &bad), EINVAL);
    struct sigaction a = {.sa_handler = nothing, .sa_flags = SA_RESTART};
    sigaction(SIGALRM, &a, NULL);
    alarm(1);
    CHECK_ERRNO(semop(id, &down, 1), EINTR);
    child = fork_clean();
    if (child == 0) {
        CHECK_ERRNO(semop(id, &down, 1), EIDRM);
        _exit(guest_failures);
    }
    while (semctl(id, 0, GETNCNT) == 0) {
        sleep_ms(1);
    }
    CHECK(semctl(id, 0, IPC_RMID) == 0);
    report("bereft", child);
}

struct message {
    long type;
    char text[100];
};

CASE(typed_messages) {
    int id = msgget(IPC_PRIVATE, IPC_CREAT | 0600);
    struct message m = {0}, in;
    static const long types[] = {3, 1, 2, 3, 1};
    for (int i = 0; i < 5; i++) {
        m.type = types[i];
        sprintf(m.text, "m%d", i);
        CHECK(msgsnd(id, &m, 3, 0) == 0);
    }
    struct msqid_ds d;
    CHECK(msgctl(id, IPC_STAT, &d) == 0 && d.msg_qnum == 5 && d.__msg_cbytes == 15 && d.msg_lspid == getpid());
    static const long wanted[] = {3, -2, 0, 1, 0};
    for (int i = 0; i < 5; i++) {
        long n = msgrcv(id, &in, 100, wanted[i], IPC_NOWAIT);
        printf("%ld: %ld type %ld %s\n", wanted[i], n, in.type, in.text);
    }
    CHECK_ERRNO(msgrcv(id, &in, 100, 0, IPC_NOWAIT), ENOMSG);
    m.type = 5;
    CHECK(msgsnd(id, &m, 50, 0) == 0);
    CHECK_ERRNO(msgrcv(id, &in, 10, 0, 0), E2BIG);
    CHECK_ERRNO(msgrcv(id, &in, 100, 5, MSG_EXCEPT | IPC_NOWAIT), ENOMSG);
    CHECK(msgrcv(id, &in, 10, 0, MSG_NOERROR) == 10);
    m.type = 0;
    CHECK_ERRNO(msgsnd(id, &m, 1, 0), EINVAL);
    m.type = 1;
    CHECK_ERRNO(msgsnd(id, &m, 8193, 0), EINVAL);
    CHECK_ERRNO(msgsnd(id, (void *)8, 1, 0), EFAULT);
    CHECK_ERRNO(msgsnd(-1, &m, 1, 0), EINVAL);
    static struct { long type; char text[8192]; } big = {1};
    CHECK(msgsnd(id, &big, 8192, 0) == 0 && msgsnd(id, &big, 8192, IPC_NOWAIT) == 0);
    CHECK_ERRNO(msgsnd(id, &m, 1, IPC_NOWAIT), EAGAIN);
    pid_t child = fork_clean();
    if (child == 0) {
        m.type = 7;
        _exit(msgsnd(id, &m, 1, 0) != 0);
    }
    until_it_sleeps(child);
    CHECK(msgrcv(id, &big, 8192, 0, 0) == 8192);
    report("sender", child);
    CHECK(msgrcv(id, &in, 100, 7, 0) == 1);
    child = fork_clean();
    if (child == 0) {
        CHECK_ERRNO(msgrcv(id, &in, 100, 9, 0), EIDRM);
        _exit(guest_failures);
    }
    until_it_sleeps(child);
    d.msg_qbytes = 1 << 20;
    CHECK_ERRNO(msgctl(id, IPC_SET, &d), EPERM);
    CHECK(msgctl(id, IPC_RMID, NULL) == 0);
    report("bereft", child);
    CHECK_ERRNO(msgctl(id, IPC_STAT, &d), EINVAL);
    key_t key = 0x53000000 + getpid();
    CHECK_ERRNO(msgget(key, 0), ENOENT);
    id = msgget(key, IPC_CREAT | 0600);
    CHECK(msgget(key, 0) == id && msgctl(id, IPC_RMID, NULL) == 0);
}

CASE(named_queues) {
    char name[64], path[80];
    sprintf(name, "/guest-%d", getpid());
    sprintf(path, "/dev/mqueue%s", name);
    CHECK_ERRNO(mq_open(name, O_RDONLY), ENOENT);
    struct mq_attr a = {.mq_maxmsg = 3, .mq_msgsize = 16}, got;
    mqd_t q = mq_open(name, O_CREAT | O_EXCL | O_RDWR | O_NONBLOCK, 0600, &a);
    CHECK(q >= 0 && mq_getattr(q, &got) == 0);
    printf("%ld %ld %ld %#lx\n", got.mq_maxmsg, got.mq_msgsize, got.mq_curmsgs, got.mq_flags);
    CHECK_ERRNO(mq_open(name, O_CREAT | O_EXCL | O_RDWR, 0600, &a), EEXIST);
    CHECK_ERRNO(mq_send(q, "0123456789abcdefg", 17, 0), EMSGSIZE);
    CHECK_ERRNO(mq_send(q, "x", 1, 32768), EINVAL);
    CHECK(mq_send(q, "low", 3, 1) == 0 && mq_send(q, "high", 4, 9) == 0 && mq_send(q, "low2", 4, 1) == 0);
    CHECK_ERRNO(mq_send(q, "full", 4, 1), EAGAIN);
    struct pollfd p = {q, POLLIN | POLLOUT, 0};
    CHECK(poll(&p, 1, 0) == 1 && p.revents == POLLIN);
    char b[16];
    unsigned priority;
    CHECK_ERRNO(mq_receive(q, b, 15, &priority), EMSGSIZE);
    for (int i = 0; i < 3; i++) {
        long n = mq_receive(q, b, 16, &priority);
        printf("%.*s %u\n", (int)n, b, priority);
    }
    CHECK_ERRNO(mq_receive(q, b, 16, &priority), EAGAIN);
    CHECK(poll(&p, 1, 0) == 1 && p.revents == POLLOUT);
    mqd_t reader = mq_open(name, O_RDONLY), writer = mq_open(name, O_WRONLY);
    CHECK_ERRNO(mq_send(reader, "x", 1, 0), EBADF);
    CHECK_ERRNO(mq_receive(writer, b, 16, NULL), EBADF);
    CHECK_ERRNO(mq_send(0, "x", 1, 0), EBADF);
    a.mq_flags = 0;
    CHECK(mq_setattr(q, &a, &got) == 0 && got.mq_flags == O_NONBLOCK && mq_getattr(q, &got) == 0 && got.mq_flags == 0);
    a.mq_maxmsg = 0;
    CHECK_ERRNO(mq_open("/guest-bad", O_CREAT | O_RDWR, 0600, &a), EINVAL);
    a.mq_maxmsg = 1 << 20;
    CHECK_ERRNO(mq_open("/guest-bad", O_CREAT | O_RDWR, 0600, &a), EINVAL);
    CHECK_ERRNO(mq_open("/a/b", O_CREAT | O_RDWR, 0600, NULL), EACCES);
    CHECK(mq_unlink(name) == 0 && mq_send(q, "still", 5, 0) == 0 && mq_receive(reader, b, 16, NULL) == 5);
    CHECK_ERRNO(mq_unlink(name), ENOENT);
    CHECK_ERRNO(access(path, F_OK), ENOENT);
    puts("done");
}

static volatile int told;
static void tell(int signal, siginfo_t *info, void *context) { told = info->si_code == SI_MESGQ ? info->si_value.sival_int : -1; }

CASE(queues_wait) {
    char name[64];
    sprintf(name, "/guest-w-%d", getpid());
    struct mq_attr a = {.mq_maxmsg = 1, .mq_msgsize = 8};
    mqd_t q = mq_open(name, O_CREAT | O_RDWR, 0600, &a);
    mq_unlink(name);
    pid_t child = fork_clean();
    if (child == 0) {
        sleep_ms(20);
        _exit(mq_send(q, "one", 3, 0) != 0 || mq_send(q, "two", 3, 0) != 0);
    }
    char b[8];
    CHECK(mq_receive(q, b, 8, NULL) == 3 && mq_receive(q, b, 8, NULL) == 3 && memcmp(b, "two", 3) == 0);
    report("sender", child);
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    t.tv_nsec += 30000000;
    if (t.tv_nsec >= 1000000000) {
        t.tv_sec++;
        t.tv_nsec -= 1000000000;
    }
    CHECK_ERRNO(mq_timedreceive(q, b, 8, NULL, &t), ETIMEDOUT);
    t.tv_nsec = -1;
    CHECK_ERRNO(mq_timedreceive(q, b, 8, NULL, &t), EINVAL);
    CHECK(mq_send(q, "fill", 4, 0) == 0);
    clock_gettime(CLOCK_REALTIME, &t);
    CHECK_ERRNO(mq_timedsend(q, "more", 4, 0, &t), ETIMEDOUT);
    CHECK(mq_receive(q, b, 8, NULL) == 4);
    struct sigaction act = {.sa_sigaction = tell, .sa_flags = SA_SIGINFO};
    sigaction(SIGUSR1, &act, NULL);
    struct sigevent e = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1, .sigev_value.sival_int = 55};
    CHECK(mq_notify(q, &e) == 0);
    CHECK_ERRNO(mq_notify(q, &e), EBUSY);
    CHECK(mq_send(q, "tell", 4, 0) == 0 && told == 55);
    CHECK(mq_receive(q, b, 8, NULL) == 4);
    told = 0;
    CHECK(mq_send(q, "once", 4, 0) == 0 && told == 0 && mq_receive(q, b, 8, NULL) == 4);
    CHECK(mq_notify(q, &e) == 0 && mq_notify(q, NULL) == 0 && mq_send(q, "gone", 4, 0) == 0 && told == 0);
    puts("done");
}

/* Waits for the next second of the clock that the times are of. */
static time_t next_second(void) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME_COARSE, &t);
    for (time_t begun = t.tv_sec; t.tv_sec == begun; clock_gettime(CLOCK_REALTIME_COARSE, &t))
        sleep_ms(20);
    return t.tv_sec;
}
static struct shmid_ds state(int id) {
    struct shmid_ds d;
    CHECK(shmctl(id, IPC_STAT, &d) == 0);
    return d;
}
/* A segment keeps when it was attached and detached last, and by whom, however that came about. */
CASE(times_of_segments) {
    int id = shmget(IPC_PRIVATE, 3 * 4096, 0600);
    struct shmid_ds d = state(id);
    CHECK(d.shm_atime == 0 && d.shm_dtime == 0 && d.shm_lpid == 0 && d.shm_cpid == getpid() && d.shm_ctime > 0);
    time_t now = next_second();
    char *p = shmat(id, NULL, 0);
    d = state(id);
    CHECK(d.shm_atime >= now && d.shm_dtime == 0 && d.shm_lpid == getpid() && d.shm_nattch == 1);
    /* A part that goes makes two of it. */
    now = next_second();
    CHECK(munmap(p + 4096, 4096) == 0);
    d = state(id);
    CHECK(d.shm_dtime >= now && d.shm_nattch == 2);
    CHECK(shmdt(p) == 0);
    CHECK(state(id).shm_nattch == 0);
    p = shmat(id, NULL, 0);
    now = next_second();
    pid_t child = fork_clean();
    if (child == 0) {
        pause();
        _exit(0);
    }
    d = state(id);
    CHECK(d.shm_atime >= now && d.shm_lpid == getpid() && d.shm_nattch == 2);
    now = next_second();
    kill(child, SIGKILL);
    report("child", child);
    d = state(id);
    CHECK(d.shm_dtime >= now && d.shm_lpid == child && d.shm_nattch == 1);
    now = next_second();
    child = fork_clean();
    if (child == 0) {
        execl("/bin/true", "true", NULL);
        _exit(1);
    }
    report("exec", child);
    d = state(id);
    CHECK(d.shm_dtime >= now && d.shm_lpid == child && d.shm_nattch == 1);
    now = next_second();
    CHECK(munmap(p, 3 * 4096) == 0);
    d = state(id);
    CHECK(d.shm_dtime >= now && d.shm_lpid == getpid() && d.shm_nattch == 0);
    now = next_second();
    d.shm_perm.mode = 0640;
    CHECK(shmctl(id, IPC_SET, &d) == 0 && state(id).shm_ctime >= now && shmctl(id, IPC_RMID, NULL) == 0);
}

static volatile int threads_told;
static void in_a_thread(union sigval value) { threads_told = value.sival_int; }
/* The kernel's half of SIGEV_THREAD: 32 bytes come back at a socket, the last one says why. */
CASE(queues_notify_threads) {
    char name[40], b[40], cookie[32] = "cookie";
    sprintf(name, "/guest-%d-threads", getpid());
    struct mq_attr attr = {.mq_maxmsg = 2, .mq_msgsize = 8};
    mqd_t q = mq_open(name, O_CREAT | O_EXCL | O_RDWR, 0600, &attr), other = mq_open(name, O_RDWR);
    struct sigevent e = {.sigev_notify = SIGEV_THREAD, .sigev_notify_function = in_a_thread, .sigev_value.sival_int = 77};
    CHECK(mq_notify(q, &e) == 0);
    CHECK_ERRNO(mq_notify(q, &e), EBUSY);
    CHECK(mq_send(q, "tell", 4, 0) == 0);
    while (!threads_told)
        sleep_ms(1);
    CHECK(threads_told == 77 && mq_receive(q, b, 8, NULL) == 4);
    int s = socket(AF_NETLINK, SOCK_RAW, 0), ends[2];
    CHECK(pipe(ends) == 0);
    e.sigev_signo = s, e.sigev_value.sival_ptr = cookie;
    CHECK(syscall(SYS_mq_notify, q, &e) == 0 && recv(s, b, 32, MSG_DONTWAIT) == -1 && errno == EAGAIN);
    CHECK_ERRNO(syscall(SYS_mq_notify, q, &e), EBUSY);
    CHECK(mq_send(q, "tell", 4, 0) == 0 && recv(s, b, 40, 0) == 32 && strcmp(b, "cookie") == 0 && b[31] == 1);
    CHECK(mq_receive(q, b, 8, NULL) == 4);
    /* Registered no more: by the call itself, by closing any descriptor of the queue. */
    CHECK(syscall(SYS_mq_notify, q, &e) == 0 && syscall(SYS_mq_notify, q, NULL) == 0);
    CHECK(recv(s, b, 40, 0) == 32 && b[31] == 2);
    CHECK(syscall(SYS_mq_notify, q, &e) == 0 && mq_close(other) == 0 && recv(s, b, 40, 0) == 32 && b[31] == 2);
    e.sigev_notify = SIGEV_NONE;
    CHECK(syscall(SYS_mq_notify, q, &e) == 0);
    if (fork() == 0) {
        CHECK(mq_close(q) == 0); /* is nobody's here */
        exit(guest_failures);
    }
    int status;
    CHECK(wait(&status) > 0 && status == 0);
    CHECK_ERRNO(syscall(SYS_mq_notify, q, &e), EBUSY);
    CHECK(syscall(SYS_mq_notify, q, NULL) == 0 && syscall(SYS_mq_notify, q, NULL) == 0);
    e.sigev_notify = SIGEV_THREAD, e.sigev_signo = ends[0];
    CHECK_ERRNO(syscall(SYS_mq_notify, q, &e), ENOTSOCK);
    e.sigev_signo = socket(AF_UNIX, SOCK_STREAM, 0);
    CHECK_ERRNO(syscall(SYS_mq_notify, q, &e), EINVAL);
    e.sigev_signo = 999;
    CHECK_ERRNO(syscall(SYS_mq_notify, q, &e), EBADF);
    e.sigev_signo = s, e.sigev_value.sival_ptr = (void *)8;
    CHECK_ERRNO(syscall(SYS_mq_notify, q, &e), EFAULT);
    e.sigev_notify = 9;
    CHECK_ERRNO(syscall(SYS_mq_notify, q, &e), EINVAL);
    CHECK(mq_unlink(name) == 0);
    puts("done");
}
