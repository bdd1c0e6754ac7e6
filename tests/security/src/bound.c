/* bound FOLDER: what a folder of the host's answers to an honest host's program, to be compared with the same program run
 * natively: a LibOS that checks too much, or forgets a part of the work, answers otherwise.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
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
    show("grow", posix_fallocate(fd, 0, 5000)), about("big"), show("shrink not", posix_fallocate(fd, 0, 10));
    about("big");
    show("punch", fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096) ? errno == EOPNOTSUPP ? 0 : -1 : 0);
    show("unlink open", unlink("big")), show("read unlinked", pread(fd, back, 10, 0));
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
    show("exchange", renameat2(AT_FDCWD, "file", AT_FDCWD, "dir/moved", RENAME_EXCHANGE) ? errno == EINVAL ? 0 : -1 : 0);
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
    show("chown", chown("file", -1, getgid())), about("file");
    for (int i = 0; i < 2500; i++)
        sprintf(name, "a-name-of-some-length-%0*d", i % 200 + 1, i), close(open(name, O_CREAT | O_WRONLY, 0600));
    list("many");
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

int main(int argc, char **argv) {
    if (argc != 2 || chdir(argv[1]))
        return 2;
    umask(022);
    show("empty", access("big", F_OK)), list("empty");
    files(), names(), streams();
    return 0;
}
