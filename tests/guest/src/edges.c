/* Edges: descriptors that travel in circles, thousands of threads, hundreds of processes. */
#include "guest.h"
#include <pthread.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>

static int send_fd(int through, int fd) {
    char c = 'x', control[CMSG_SPACE(sizeof(int))] = "";
    struct { void *p; size_t n; } v = {&c, 1};
    struct msghdr m = {.msg_iov = (void *)&v, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    struct cmsghdr *h = CMSG_FIRSTHDR(&m);
    h->cmsg_level = SOL_SOCKET, h->cmsg_type = SCM_RIGHTS, h->cmsg_len = CMSG_LEN(sizeof fd);
    memcpy(CMSG_DATA(h), &fd, sizeof fd);
    return sendmsg(through, &m, 0) == 1 ? 0 : -1;
}
static int take_fd(int from) {
    char c, control[CMSG_SPACE(sizeof(int))];
    struct { void *p; size_t n; } v = {&c, 1};
    struct msghdr m = {.msg_iov = (void *)&v, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    int fd = -1;
    if (recvmsg(from, &m, 0) == 1 && CMSG_FIRSTHDR(&m))
        memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof fd);
    return fd;
}

/* Is the other end of a pipe still held by somebody? Linux looks for circles when a socket is closed, but may begin
 * before the last one of the circle is, so others are closed while we wait. */
static int held(int read_end) {
    char c;
    fcntl(read_end, F_SETFL, O_NONBLOCK);
    for (int i = 0; i < 300; i++) {
        if (read(read_end, &c, 1) == 0)
            return 0;
        close(socket(AF_UNIX, SOCK_DGRAM, 0));
        sleep_ms(10);
    }
    return 1;
}

CASE(circles) {
    int p[2], s[2], t[2];
    /* A socket that waits in its own queue, with a pipe's end beside it. */
    CHECK(pipe(p) == 0 && socketpair(AF_UNIX, SOCK_DGRAM, 0, s) == 0);
    CHECK(send_fd(s[0], s[1]) == 0 && send_fd(s[0], p[1]) == 0);
    close(p[1]), close(s[0]), close(s[1]);
    printf("itself: %s\n", held(p[0]) ? "lost" : "gone");
    /* Two through each other. */
    CHECK(pipe(p) == 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, s) == 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, t) == 0);
    CHECK(send_fd(s[0], t[1]) == 0 && send_fd(t[0], s[1]) == 0 && send_fd(t[0], p[1]) == 0);
    close(p[1]), close(s[0]), close(s[1]), close(t[0]), close(t[1]);
    printf("each other: %s\n", held(p[0]) ? "lost" : "gone");
    /* A connection that was never accepted, at a listener that waits in it. */
    int listener = socket(AF_UNIX, SOCK_STREAM, 0), client = socket(AF_UNIX, SOCK_STREAM, 0);
    struct sockaddr_un a = {AF_UNIX};
    snprintf(a.sun_path + 1, 60, "occlum circles %d", getpid());
    CHECK(pipe(p) == 0 && bind(listener, (void *)&a, sizeof a) == 0 && listen(listener, 1) == 0);
    CHECK(connect(client, (void *)&a, sizeof a) == 0 && send_fd(client, listener) == 0 && send_fd(client, p[1]) == 0);
    close(p[1]), close(client), close(listener);
    printf("listener: %s\n", held(p[0]) ? "lost" : "gone");
    /* What somebody can still reach stays. */
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, s) == 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, t) == 0);
    CHECK(send_fd(s[0], t[1]) == 0 && send_fd(t[0], s[0]) == 0);
    close(t[1]), close(s[0]);
    int other[2];
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, other) == 0);
    close(other[0]), close(other[1]);
    int back = take_fd(s[1]);
    CHECK(back >= 0);
    int again = take_fd(back);
    CHECK(again >= 0 && write(again, "ok", 2) == 2);
    char text[4] = "";
    CHECK(read(s[1], text, 3) == 2);
    puts(text);
    /* A process that ends with its circle. */
    CHECK(pipe(p) == 0);
    pid_t child = fork_clean();
    if (child == 0) {
        CHECK(socketpair(AF_UNIX, SOCK_DGRAM, 0, s) == 0 && send_fd(s[0], s[1]) == 0 && send_fd(s[0], p[1]) == 0);
        _exit(0);
    }
    report("child", child);
    close(p[1]);
    printf("ended: %s\n", held(p[0]) ? "lost" : "gone");
}

static atomic_int arrived, gate;
static void *waits(void *arg) {
    arrived++;
    while (!gate)
        usleep(20000);
    return (char *)arg + 1;
}

/* Messages hold no more files than their sender may have open, whoever receives; those taken out count no longer. */
CASE(files_under_way) {
    int s[2], drain[2], sent = 0;
    struct rlimit few = {20, 20};
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, s) == 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, drain) == 0);
    CHECK(setresuid(54321, 54321, 54321) == 0 && setrlimit(RLIMIT_NOFILE, &few) == 0);
    while (sent < 100 && send_fd(s[0], 0) == 0)
        sent++;
    CHECK(errno == ETOOMANYREFS);
    CHECK(send(s[0], "x", 1, 0) == 1); /* without files */
    printf("%d\n", sent);
    char c;
    CHECK(recv(s[1], &c, 1, 0) == 1 && recv(s[1], &c, 1, 0) == 1); /* two go */
    CHECK(send_fd(drain[0], 0) == 0 && send_fd(drain[0], 0) == 0 && send_fd(drain[0], 0) == -1 && errno == ETOOMANYREFS);
    close(s[1]);
    close(s[0]);
    CHECK(send_fd(drain[0], 0) == 0);
    return 0;
}

CASE(two_thousand_threads) {
    enum { N = 2000 };
    static pthread_t t[N];
    pthread_attr_t a;
    pthread_attr_init(&a);
    pthread_attr_setstacksize(&a, 32768);
    int made = 0;
    for (; made < N; made++)
        if (pthread_create(&t[made], &a, waits, (void *)(long)made) != 0)
            break;
    for (int i = 0; i < 2000 && arrived < made; i++)
        sleep_ms(10);
    printf("%d made, %d arrived\n", made, arrived);
    gate = 1;
    long good = 0;
    for (int i = 0; i < made; i++) {
        void *r;
        good += pthread_join(t[i], &r) == 0 && r == (char *)(long)i + 1;
    }
    printf("%ld joined\n", good);
}

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t turn_changed = PTHREAD_COND_INITIALIZER;
static int turn;
static void *in_turn(void *arg) {
    pthread_mutex_lock(&lock);
    for (int round = 0; round < 3; round++) {
        while (turn % 100 != (int)(long)arg)
            pthread_cond_wait(&turn_changed, &lock);
        turn++;
        pthread_cond_broadcast(&turn_changed);
    }
    pthread_mutex_unlock(&lock);
    return NULL;
}

CASE(no_wake_up_is_lost) {
    pthread_t t[100];
    for (long i = 0; i < 100; i++)
        CHECK(pthread_create(&t[i], NULL, in_turn, (void *)i) == 0);
    for (int i = 0; i < 100; i++)
        pthread_join(t[i], NULL);
    printf("%d turns\n", turn);
}

CASE(five_hundred_processes) {
    int p[2], made = 0, good = 0, status;
    CHECK(pipe(p) == 0);
    fflush(stdout);
    for (; made < 500; made++) {
        pid_t child = fork();
        if (child < 0)
            break;
        if (child == 0) {
            char c;
            close(p[1]);
            _exit(read(p[0], &c, 1) == 0 ? 5 : 6);
        }
    }
    close(p[1]);
    while (wait(&status) > 0)
        good += WIFEXITED(status) && WEXITSTATUS(status) == 5;
    printf("%d made, %d ended well\n", made, good);
}
