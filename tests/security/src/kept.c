/* kept KIND: a user makes as much as can be made of what ends with no process, and ends. Others go on: programs of root's
 * begin and end, and there is memory for them.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <mqueue.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/wait.h>
#include <unistd.h>

#define NOBODY 65534
#define SHARE (32ul << 20)

static void messages(void) {
    static struct {
        long kind;
        char text[8192];
    } m = {1, ""};
    for (int id; (id = msgget(IPC_PRIVATE, 0600 | IPC_CREAT)) >= 0;)
        while (msgsnd(id, &m, sizeof m.text, IPC_NOWAIT) == 0)
            ;
}
static void small_messages(void) {
    struct {
        long kind;
    } m = {1};
    for (int id; (id = msgget(IPC_PRIVATE, 0600 | IPC_CREAT)) >= 0;)
        while (msgsnd(id, &m, 0, IPC_NOWAIT) == 0)
            ;
}
static void semaphores(void) {
    for (int n = 32000; n > 0; n /= 2)
        while (semget(IPC_PRIVATE, n, 0600 | IPC_CREAT) >= 0)
            ;
}
static void segments(void) {
    for (size_t size = 64ul << 20; size >= 4096; size /= 2)
        for (int id; (id = shmget(IPC_PRIVATE, size, 0600 | IPC_CREAT)) >= 0;) {
            char *p = shmat(id, NULL, 0);
            for (size_t at = 0; p != (void *)-1 && at < size; at += 4096)
                p[at] = 1;
            shmdt(p);
        }
}
static void posix(void) {
    static char text[8192];
    char name[32];
    for (int i = 0;; i++) {
        snprintf(name, sizeof name, "/%d", i);
        mqd_t q = mq_open(name, O_CREAT | O_RDWR | O_NONBLOCK, 0600, NULL);
        if (q < 0)
            return;
        while (mq_send(q, text, sizeof text, 0) == 0)
            ;
        mq_close(q);
    }
}

static void files(void) {
    static char text[1 << 16];
    int fd = open("/tmp/filled", O_WRONLY | O_CREAT, 0600);
    while (write(fd, text, sizeof text) > 0)
        ;
    for (char name[64], i = 0; ++i < 100;) {
        snprintf(name, sizeof name, "/tmp/filled-%d", i);
        close(open(name, O_WRONLY | O_CREAT, 0600));
    }
}
static void names(void) {
    char name[64];
    for (int i = 0;; i++) {
        snprintf(name, sizeof name, "/tmp/name-%d", i);
        int fd = open(name, O_WRONLY | O_CREAT, 0600);
        if (fd < 0)
            return;
        close(fd);
    }
}

static const struct {
    const char *name;
    void (*fill)(void);
} KINDS[] = {
    {"messages", messages}, {"small_messages", small_messages}, {"semaphores", semaphores}, {"segments", segments}, {"posix", posix},
    {"files", files},       {"names", names},
};

static int status_of(pid_t child) {
    int status = -1;
    waitpid(child, &status, 0);
    return status;
}

int main(int argc, char **argv) {
    for (size_t i = 0; argc > 1 && i < sizeof KINDS / sizeof *KINDS; i++) {
        if (strcmp(argv[1], KINDS[i].name))
            continue;
        pid_t child = fork();
        if (child == 0) {
            setgid(NOBODY), setuid(NOBODY);
            KINDS[i].fill();
            _exit(0);
        }
        printf("filled: %x\n", status_of(child));
        for (int n = 0; n < 5; n++) {
            child = fork();
            if (child == 0) {
                char *p = mmap(NULL, SHARE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
                memset(p, 1, SHARE);
                execl("/bin/true", "true", (char *)NULL);
                _exit(1);
            }
            printf("ended: %x\n", status_of(child));
        }
        return 0;
    }
    return 1;
}
