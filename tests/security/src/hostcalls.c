/* Makes the LibOS ask the host again and again, whatever it answers: hostcalls FOLDER ROUNDS. FOLDER is shared with the
 * host. Results are ignored: they may be lies.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

static char buf[8192];

static void files(void) {
    struct stat st;
    struct statfs fs;
    int fd = open("a", O_RDWR | O_CREAT, 0644);
    pwrite(fd, buf, 100, 4096);
    ftruncate(fd, 50);
    fsync(fd);
    fstat(fd, &st);
    pread(fd, buf, sizeof buf, 0);
    lseek(fd, 0, SEEK_END);
    close(fd);
    stat("a", &st), lstat("l", &st), stat("none", &st);
    statfs(".", &fs);
    symlink("a", "l");
    readlink("l", buf, sizeof buf);
    mkdir("d", 0755), rename("d", "e"), rmdir("e");
    link("a", "h"), chmod("h", 0600), unlink("h"), unlink("l");
    truncate("a", 10);
}

static void folders(void) {
    DIR *d = opendir(".");
    for (int n = 0; d && n < 100 && readdir(d); n++)
        ;
    if (d)
        closedir(d);
    int fd = open("/etc/passwd", O_RDONLY);
    read(fd, buf, 64);
    close(fd);
}

static void streams(void) {
    struct pollfd p[2] = { { 0, POLLIN, 0 }, { 1, POLLOUT, 0 } };
    struct termios t;
    int n;
    poll(p, 2, 0);
    ioctl(0, FIONREAD, &n), tcgetattr(0, &t);
    lseek(0, 0, SEEK_CUR);
    if (poll(p, 1, 0) == 1)
        read(0, buf, 1);
    write(1, "x", 1);
}

static void memory(void) {
    char *p = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p != MAP_FAILED) {
        p[4096] = 1;
        mprotect(p, 8192, PROT_READ);
        munmap(p, 1 << 20);
    }
    p = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (p != MAP_FAILED) {
        p[100] = 1;
        munmap(p, 65536);
    }
}

static void processes(void) {
    struct timespec t = { 0, 20000 };
    pid_t pid = fork();
    if (pid == 0) {
        nanosleep(&t, NULL);
        _exit(0);
    }
    nanosleep(&t, NULL);
    if (pid > 0)
        waitpid(pid, NULL, 0);
}

int main(int argc, char **argv) {
    signal(SIGPIPE, SIG_IGN);
    signal(SIGBUS, SIG_IGN);
    if (argc != 3 || chdir(argv[1]))
        return 2;
    for (int n = atoi(argv[2]); n > 0; n--) {
        files(), folders(), streams(), memory();
        if (n % 4 == 0)
            processes();
    }
    return 0;
}
