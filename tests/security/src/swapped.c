/* Works in directory "d" of the current one, which the host exchanges for a link and back all the while: swapped ROUNDS. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

int main(int argc, char **argv) {
    const struct timespec times[2] = {{1, 0}, {1, 0}};
    int held = open("d", O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
    for (int i = 0; i < atoi(argv[1]); i++) {
        int dir = i % 2 ? held : AT_FDCWD;
        const char *at = i % 2 ? "" : "d/";
        char name[100], other[100];
#define NAME(text) (snprintf(name, sizeof name, "%s%s", at, text), name)
        int fd = openat(dir, NAME("secret"), O_RDWR | O_CREAT | O_NOFOLLOW, 0666);
        if (fd >= 0)
            pwrite(fd, "changed", 7, 0), fchmod(fd, 0600), close(fd);
        close(openat(dir, NAME("new"), O_RDWR | O_CREAT | O_EXCL, 0666));
        fchmodat(dir, NAME("secret"), 0666, 0);
        utimensat(dir, NAME("secret"), times, AT_SYMLINK_NOFOLLOW);
        fchownat(dir, NAME("secret"), 1, 1, AT_SYMLINK_NOFOLLOW);
        mkdirat(dir, NAME("made"), 0777);
        mknodat(dir, NAME("fifo"), S_IFIFO | 0666, 0);
        symlinkat("/", dir, NAME("slash"));
        snprintf(other, sizeof other, "%sother", at);
        linkat(dir, NAME("secret"), dir, other, 0);
        renameat(dir, NAME("victim"), dir, other);
        unlinkat(dir, NAME("victim"), 0);
        unlinkat(dir, NAME("new"), 0);
        unlinkat(dir, NAME("fifo"), 0);
        unlinkat(dir, NAME("slash"), 0);
        unlinkat(dir, NAME("made"), AT_REMOVEDIR);
        unlinkat(dir, NAME("empty"), AT_REMOVEDIR);
        truncate("d/secret", 1);
    }
    puts("done");
    return argc != 2;
}
