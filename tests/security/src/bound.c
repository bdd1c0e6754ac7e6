/* bound FOLDER PORT IP PORT: what a folder and the sockets of the host's answer to an honest host's program, to be compared
 * with the same program run natively: a LibOS that checks too much, or forgets a part of the work, answers otherwise. What
 * is sent to the second address comes back at the first port. `bound IP PORT` only tries to
 * get there, again and again.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/uio.h>
#include <unistd.h>

#define BIG (3 << 20)
static char big[BIG];

static void show(const char *what, long result) {
    printf("%s: %ld %s\n", what, result < 0 ? -1 : result, result < 0 ? strerrorname_np(errno) : "");
}

static int by_name(const void *a, const void *b) {
    return strcmp(*(char **)a, *(char **)b);
}

static void list(const char *what) {
    DIR *d = opendir(".");
    char *names[3000];
    int count = 0;
    for (struct dirent *e; d && (e = readdir(d)) && count < 3000;)
        asprintf(&names[count++], "%s %d", e->d_name, e->d_type);
    if (d)
        closedir(d);
    qsort(names, count, sizeof *names, by_name);
    unsigned hash = 0;
    for (int i = 0; i < count; i++)
        for (char *c = names[i]; *c; c++)
            hash = hash * 31 + *c;
    printf("%s: %d names, %x\n", what, count, hash);
}

static void about(const char *name) {
    struct stat s;
    long r = lstat(name, &s);
    show(name, r);
    if (r == 0)
        printf("  mode %o, links %ld, size %ld\n", s.st_mode, S_ISDIR(s.st_mode) ? 0 : (long)s.st_nlink,
               S_ISDIR(s.st_mode) ? 0 : (long)s.st_size);
}

static void files(void) {
    for (int i = 0; i < BIG; i++)
        big[i] = i * 7 >> 3;
    int fd = open("big", O_RDWR | O_CREAT | O_EXCL, 0640);
    show("write", write(fd, big, BIG));
    show("create again", open("big", O_RDWR | O_CREAT | O_EXCL, 0640));
    char *back = calloc(1, BIG);
    show("read all", pread(fd, back, BIG, 0)), show("the same", memcmp(big, back, BIG));
    show("read the end", pread(fd, back, 1000, BIG - 10)), show("read behind", pread(fd, back, 10, BIG));
    struct iovec v[2] = { { back, 5 }, { back + 5, 7 } };
    show("vector", preadv(fd, v, 2, 100)), show("the same", memcmp(big + 100, back, 12));
    show("sync", fsync(fd)), show("truncate", ftruncate(fd, 1000)), about("big");
    show("grow", fallocate(fd, 0, 0, 5000)), about("big"), show("shrink not", posix_fallocate(fd, 0, 10));
    about("big");
    /* A host's folder may refuse, but not claim to have done it. */
    int punched = fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096);
    show("punch", punched ? errno == EOPNOTSUPP : pread(fd, back, 10, 0) == 10 && memcmp(back, "\0\0\0\0\0\0\0\0\0", 10) == 0);
    show("unlink open", unlink("big")), show("read unlinked", pread(fd, back, 10, 0));
    show("write unlinked", pwrite(fd, "new", 3, 0)), show("read", pread(fd, back, 3, 0)), printf("  %.3s\n", back);
    close(fd);
    fd = open("ro", O_CREAT | O_RDONLY, 0444);
    show("write to a reader", write(fd, "x", 1)), close(fd);
    show("open a folder to write", open(".", O_RDWR));
    show("read a folder", read(open(".", O_RDONLY), back, 10));
    show("truncate by name", truncate("ro", 100)), about("ro");
}

static void names(void) {
    char text[5000];
    char name[300];
    show("mkdir", mkdir("dir", 0750)), about("dir"), show("mkdir again", mkdir("dir", 0750));
    show("symlink", symlink("dir/none", "link")), about("link");
    memset(text, 0, sizeof text);
    show("readlink", readlink("link", text, sizeof text)), puts(text);
    show("readlink cut", readlink("link", text, 3)), show("readlink of none", readlink("dir", text, 10));
    memset(text, 'l', 4000), text[4000] = 0;
    show("long link", symlink(text, "long")), show("long link", readlink("long", text, sizeof text));
    close(open("file", O_CREAT | O_WRONLY, 0600));
    show("link", link("file", "other")), about("other"), show("rename", rename("other", "dir/moved")), about("dir/moved");
    /* A host's folder may refuse, but then both are there still. */
    close(open("one", O_CREAT | O_WRONLY, 0600)), close(open("two", O_CREAT | O_WRONLY, 0600));
    show("exchange", renameat2(AT_FDCWD, "one", AT_FDCWD, "two", RENAME_EXCHANGE) ? errno == EINVAL ? 0 : -1 : 0);
    list("exchanged"), show("unlink", unlink("one")), show("unlink", unlink("two"));
    show("rmdir full", rmdir("dir")), show("lookup in a file", access("file/x", F_OK));
    show("chmod", chmod("file", 0604)), about("file");
    struct timespec t[2] = { { 1000, 5 }, { 2000, 6 } };
    struct stat s;
    show("times", utimensat(AT_FDCWD, "file", t, 0)), stat("file", &s);
    printf("  %ld.%09ld %ld.%09ld\n", s.st_atim.tv_sec, s.st_atim.tv_nsec, s.st_mtim.tv_sec, s.st_mtim.tv_nsec);
    t[0].tv_nsec = UTIME_OMIT, t[1].tv_sec = 3000;
    show("one time", utimensat(AT_FDCWD, "file", t, 0)), stat("file", &s);
    printf("  %ld %ld\n", s.st_atim.tv_sec, s.st_mtim.tv_sec);
    show("fifo", mkfifo("fifo", 0600) ? errno == EPERM ? 0 : -1 : 0), unlink("fifo");
    struct stat before, after;
    stat("file", &before), usleep(30000), show("chown", chown("file", -1, getgid())), about("file");
    stat("file", &after);
    show("noted", before.st_ctim.tv_sec != after.st_ctim.tv_sec || before.st_ctim.tv_nsec != after.st_ctim.tv_nsec);
    for (int i = 0; i < 2500; i++)
        sprintf(name, "a-name-of-some-length-%0*d", i % 200 + 1, i), close(open(name, O_CREAT | O_WRONLY, 0600));
    list("many");
    /* The longest name, and names that only look like others. */
    memset(name, 'n', 255), name[255] = 0;
    close(open(name, O_CREAT | O_WRONLY, 0600)), close(open("..x", O_CREAT, 0600)), close(open(".x", O_CREAT, 0600));
    close(open("...", O_CREAT, 0600)), list("odd");
    show("into a link", access("link/x", F_OK)), show("mkdir below", mkdir("dir/deep", 0700)), about("dir/deep");
    show("own link", symlink("dir", "way")), show("through it", access("way/deep", F_OK)), about("way/deep");
    getcwd(text, sizeof text), strcat(text, "/dir"), show("absolute link", symlink(text, "abs"));
    show("through it", access("abs/deep", F_OK));
    struct statfs f;
    show("statfs", statfs(".", &f)), show("blocks", f.f_blocks > 0 && f.f_bsize > 0);
}

static void streams(void) {
    struct pollfd p = { 1, POLLOUT, 0 };
    show("poll", poll(&p, 1, 0)), printf("  %x\n", p.revents);
    show("seek", lseek(0, 5, SEEK_SET));
    char c[4] = "";
    show("read", read(0, c, 3)), puts(c), show("behind", lseek(0, 0, SEEK_END));
    show("read", read(0, c, 3));
}

static int ready(int s, int events, int ms) {
    struct pollfd p = { s, events, 0 };
    poll(&p, 1, ms);
    return p.revents;
}

static void patient(int s) {
    struct timeval t = { 5, 0 };
    setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t), setsockopt(s, SOL_SOCKET, SO_SNDTIMEO, &t, sizeof t);
}

static void all(int s, char *to, long size) {
    long n, done = 0;
    while (done < size && (n = recv(s, to + done, size - done, 0)) > 0)
        done += n;
    show("received", done);
}

/* More than fits on the way, both ends in turn. */
static void much(int from, int to) {
    char *back = calloc(1, BIG);
    long n, sent = 0, got = 0;
    while (got < BIG) {
        if (sent < BIG && (n = send(from, big + sent, BIG - sent, MSG_DONTWAIT)) > 0)
            sent += n;
        if ((n = recv(to, back + got, BIG - got, MSG_DONTWAIT)) > 0)
            got += n;
        else if (n == 0 || errno != EAGAIN || (ready(to, POLLIN, sent < BIG ? 1 : 5000) == 0 && sent == BIG))
            break;
    }
    show("much", got), show("the same", memcmp(big, back, BIG));
    while (send(from, big, BIG, MSG_DONTWAIT) > 0)
        ;
    show("full", errno == EAGAIN), show("not writable", ready(from, POLLOUT, 0));
    while (ready(to, POLLIN, 200) && recv(to, back, BIG, MSG_DONTWAIT) > 0)
        ;
    show("writable", ready(from, POLLOUT, 5000)), free(back);
}

static void connections(int port, struct sockaddr_in there) {
    struct sockaddr_in any = { AF_INET, htons(port) }, from;
    socklen_t n = sizeof from;
    char text[100] = "";
    int yes = 1, value = 0, l = socket(AF_INET, SOCK_STREAM, 0), s = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(l, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    show("bind", bind(l, (void *)&any, sizeof any)), show("listen", listen(l, 5));
    show("nobody", ready(l, POLLIN, 0));
    show("connect", connect(s, (void *)&there, sizeof there)), show("somebody", ready(l, POLLIN, 5000));
    int a = accept(l, (void *)&from, &n);
    show("accept", a >= 0), show("of", from.sin_family), patient(a), patient(s);
    fcntl(l, F_SETFL, O_NONBLOCK), show("no more", accept(l, NULL, NULL));
    show("nothing", recv(a, text, 10, MSG_DONTWAIT)), show("writable", ready(s, POLLIN | POLLOUT, 0));
    show("send", send(s, "some text", 9, 0)), show("room", ready(s, POLLOUT, 0)), show("news", ready(a, POLLIN, 5000));
    show("peek", recv(a, text, 4, MSG_PEEK)), puts(text), show("still", ready(a, POLLIN, 0));
    show("peek all", recv(a, text, 50, MSG_PEEK)), show("still", ready(a, POLLIN, 0));
    show("part", recv(a, text, 4, 0)), show("rest", ready(a, POLLIN, 0)), show("count", ioctl(a, FIONREAD, &value) + value);
    show("rest", recv(a, text, 50, 0)), puts(text), show("empty", ready(a, POLLIN, 0));
    show("more", send(s, "a", 1, MSG_MORE)), show("held", ready(a, POLLIN, 20));
    show("more", send(s, "b", 1, 0)), all(a, text, 2);
    n = sizeof value, show("option", getsockopt(s, SOL_SOCKET, SO_ERROR, &value, &n)), show("length", n + value);
    n = sizeof value, setsockopt(s, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    show("no delay", getsockopt(s, IPPROTO_TCP, TCP_NODELAY, &value, &n)), show("set", !!value);
    much(s, a), much(a, s);
    show("last", send(s, "end", 3, 0)), show("shutdown", shutdown(s, SHUT_WR));
    all(a, text, 3), show("end", recv(a, text, 10, 0)), show("again", recv(a, text, 10, 0));
    show("hung up", ready(a, POLLIN | POLLRDHUP, 5000)), show("other way", send(a, "x", 1, 0)), all(s, text, 1);
    close(a), show("gone", recv(s, text, 10, 0)), close(s), close(l);
    s = socket(AF_INET, SOCK_STREAM, 0), show("refused", connect(s, (void *)&there, sizeof there)), close(s);
}

static void datagrams(int port, struct sockaddr_in there) {
    struct sockaddr_in any = { AF_INET, htons(port) }, from;
    socklen_t n = sizeof from;
    char text[100] = "";
    int r = socket(AF_INET, SOCK_DGRAM, 0), s = socket(AF_INET, SOCK_DGRAM, 0);
    show("bind", bind(r, (void *)&any, sizeof any)), patient(r), patient(s);
    show("nothing", recv(r, text, 10, MSG_DONTWAIT)), show("nothing", ready(r, POLLIN, 0));
    show("send to", sendto(s, "letters", 7, 0, (void *)&there, sizeof there)), show("news", ready(r, POLLIN, 5000));
    show("peek", recvfrom(r, text, 3, MSG_PEEK, (void *)&from, &n)), puts(text);
    show("cut", recvfrom(r, text, 3, MSG_TRUNC, (void *)&from, &n)), show("none left", ready(r, POLLIN, 0));
    show("answer", sendto(r, "back", 4, 0, (void *)&from, n)), memset(text, 0, 100);
    show("answered", recv(s, text, 100, 0)), puts(text);
    show("for the impatient", sendto(s, "x", 1, 0, (void *)&there, sizeof there));
    long tries = 50000000;
    while (--tries && recv(r, text, 10, MSG_DONTWAIT) != 1)
        ;
    show("came without waiting", tries > 0);
    show("empty one", sendto(s, "", 0, 0, (void *)&there, sizeof there)), show("news", ready(r, POLLIN, 5000));
    show("empty one", recvfrom(r, text, 3, 0, NULL, NULL)), show("none left", ready(r, POLLIN, 0));
    show("connect", connect(s, (void *)&there, sizeof there)), show("big", send(s, big, 60000, 0));
    show("big", recv(r, big + 60000, 65000, 0)), show("the same", memcmp(big, big + 60000, 60000));
    show("too big", send(s, big, 70000, 0)), show("two", send(s, "1", 1, 0) + send(s, "2", 1, 0));
    all(r, text, 2), close(r), close(s);
}

int main(int argc, char **argv) {
    if (argc == 3) {
        struct sockaddr_in there = { AF_INET, htons(atoi(argv[2])), { inet_addr(argv[1]) } };
        for (int i = access("lies-begin", F_OK); i < 100; i++)
            show("reach", connect(socket(AF_INET, i % 2 ? SOCK_STREAM : SOCK_DGRAM, 0), (void *)&there, sizeof there));
        return 0;
    }
    if (argc != 5 || chdir(argv[1]))
        return 2;
    umask(022);
    show("empty", access("big", F_OK)), list("empty");
    files(), names(), streams();
    struct sockaddr_in there = { AF_INET, htons(atoi(argv[4])), { inet_addr(argv[3]) } };
    connections(atoi(argv[2]), there), datagrams(atoi(argv[2]), there);
    /* The host's own stream stays: it says there how the enclave ended. */
    return close(2);
}
