/* Tries to get out of a shared directory: outside SHARE OUTSIDE.
 *
 * OUTSIDE/c has files that the host watches. A directory or file of the share is opened, its name is made a link that leads
 * there, and then everything that takes a directory and a name, or an open file, is done with what was opened. A line is
 * printed for what came from outside; what was changed there only the host can see. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

static const char *share, *outside, *stage;
static char there[4000];

static void leaked(const char *what) { printf("%s: %s reached what is outside\n", stage, what); }

static void look_at(int fd, const char *how) {
    char text[64] = "";
    if (fd < 0)
        return;
    if (read(fd, text, 63) > 0 && strstr(text, "SECRET"))
        leaked(how);
    if (pwrite(fd, "changed", 7, 0) < 0 || ftruncate(fd, 3) < 0)
        errno = 0;
    close(fd);
}

static void run(int dir, const char *name) {
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        char *const argv[] = {"prog", NULL}, *const envp[] = {NULL};
        execveat(dir, name, argv, envp, 0);
        _exit(0);
    }
    int status = 0;
    waitpid(child, &status, 0);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 42)
        leaked("execveat");
}

static void bind_in(int dir) {
    struct sockaddr_un name = {AF_UNIX};
    snprintf(name.sun_path, sizeof name.sun_path, "/proc/self/fd/%d/socket", dir);
    int s = socket(AF_UNIX, SOCK_STREAM, 0);
    bind(s, (void *)&name, sizeof name);
    close(s);
}

static void list(int dir) {
    DIR *d = fdopendir(openat(dir, ".", O_RDONLY | O_DIRECTORY));
    for (struct dirent *e; d && (e = readdir(d));)
        if (!strcmp(e->d_name, "secret"))
            leaked("getdents");
    if (d)
        closedir(d);
}

/* All that goes through a directory and a name. */
static void attack(int dir, const char *name) {
    stage = name;
    const struct timespec times[2] = {{1, 0}, {1, 0}};
    char by_fd[64], text[64] = "";
    struct stat s;
    int root = open(share, O_RDONLY | O_DIRECTORY);
    close(openat(root, "own", O_CREAT | O_RDWR, 0644));

    if (!fstatat(dir, "secret", &s, AT_SYMLINK_NOFOLLOW))
        leaked("stat");
    if (readlinkat(dir, "link", text, 63) > 0)
        leaked("readlink");
    if (!faccessat(dir, "secret", R_OK, 0))
        leaked("access");
    list(dir);
    run(dir, "prog");
    look_at(openat(dir, "secret", O_RDONLY), "open to read");
    look_at(openat(dir, "secret", O_RDWR), "open to write");
    look_at(openat(dir, "secret", O_WRONLY | O_TRUNC), "open to truncate");
    look_at(openat(dir, "secret", O_RDWR | O_CREAT, 0666), "open to create");
    unlinkat(dir, "secret", 0);
    look_at(openat(dir, "new", O_RDWR | O_CREAT | O_EXCL, 0666), "creating");
    look_at(openat(dir, "sub/new", O_RDWR | O_CREAT, 0666), "creating below");
    close(openat(dir, ".", O_RDWR | O_TMPFILE, 0600));
    fchmodat(dir, "secret", 0666, 0);
    fchmodat(dir, "sub", 0777, 0);
    fchownat(dir, "secret", 1, 1, AT_SYMLINK_NOFOLLOW);
    utimensat(dir, "secret", times, AT_SYMLINK_NOFOLLOW);
    utimensat(dir, "link", times, AT_SYMLINK_NOFOLLOW);
    snprintf(by_fd, sizeof by_fd, "/proc/self/fd/%d/secret", dir);
    if (!truncate(by_fd, 0))
        leaked("truncate");
    setxattr(by_fd, "user.x", "1", 1, 0);
    mkdirat(dir, "made", 0777);
    mknodat(dir, "fifo", S_IFIFO | 0666, 0);
    mknodat(dir, "file", S_IFREG | 0666, 0);
    bind_in(dir);
    symlinkat("/", dir, "slash");
    linkat(root, "own", dir, "hard", 0);
    if (!linkat(dir, "secret", root, "stolen", 0))
        leaked("link");
    renameat(root, "own", dir, "moved-in");
    if (!renameat(dir, "sub", root, "sub-out") || !renameat(dir, "secret", root, "moved-out"))
        leaked("rename");
    renameat(dir, "victim", dir, "renamed");
    renameat2(dir, "victim", dir, "secret", RENAME_EXCHANGE);
    unlinkat(dir, "empty", AT_REMOVEDIR);
    unlinkat(dir, "victim", 0);
    fchmod(dir, 0777);
    fchown(dir, 1, 1);
    futimens(dir, times);
    if (!fchdir(dir)) {
        close(open("relative", O_CREAT | O_RDWR, 0666));
        unlink("victim");
        if (getcwd(text, 63) && strstr(text, outside))
            leaked("getcwd");
        chdir(share);
    }
    close(root);
    close(dir);
}

/* All that goes through an open file. */
static void attack_file(int fd, const char *name) {
    stage = name;
    const struct timespec times[2] = {{1, 0}, {1, 0}};
    char by_fd[64], text[64] = "";
    struct stat s;
    if (!fstat(fd, &s) && s.st_size == 14)
        leaked("fstat");
    fchmod(fd, 0666);
    fchown(fd, 1, 1);
    futimens(fd, times);
    fsetxattr(fd, "user.x", "1", 1, 0);
    if (pread(fd, text, 63, 0) > 0 && strstr(text, "SECRET"))
        leaked("read");
    pwrite(fd, "changed", 7, 0);
    ftruncate(fd, 3);
    posix_fallocate(fd, 0, 100);
    snprintf(by_fd, sizeof by_fd, "/proc/self/fd/%d", fd);
    chmod(by_fd, 0666);
    chown(by_fd, 1, 1);
    utimensat(AT_FDCWD, by_fd, times, 0);
    truncate(by_fd, 1);
    look_at(open(by_fd, O_RDWR), "reopening");
    linkat(fd, "", AT_FDCWD, "stolen-file", AT_EMPTY_PATH);
    linkat(AT_FDCWD, by_fd, AT_FDCWD, "stolen-file", AT_SYMLINK_FOLLOW);
    run(fd, "");
    close(fd);
}

static int directory(const char *path, int flags) { return open(path, O_DIRECTORY | flags); }

static void through_directories(int flags) {
    mkdir("a", 0755), mkdir("a/c", 0755);
    int d = directory("a/c", flags);
    rename("a", "b"), symlink(outside, "a");
    attack(d, flags ? "parent renamed (path)" : "parent renamed");
    unlink("a");

    mkdir("e", 0755);
    d = directory("e", flags);
    rmdir("e"), symlink(there, "e");
    attack(d, flags ? "removed (path)" : "removed");
    unlink("e");

    mkdir("r", 0755);
    d = directory("r", flags);
    rename("r", "s"), symlink(there, "r");
    attack(d, flags ? "renamed (path)" : "renamed");
    unlink("r");

    mkdir("x", 0755), mkdir("y", 0755);
    d = directory("y", flags);
    rename("x", "y"), rename("y", "z"), symlink(there, "y");
    attack(d, flags ? "replaced (path)" : "replaced");
    unlink("y");

    /* Deeper: the one in the middle goes to another parent. */
    mkdir("p", 0755), mkdir("p/c", 0755), mkdir("p/c/deep", 0755), mkdir("q", 0755);
    d = directory("p/c/deep", flags);
    rename("p/c", "q/c"), symlink(there, "p/c");
    attack(d, flags ? "moved (path)" : "moved");
    int up = openat(directory("q/c/deep", 0), "..", flags | O_DIRECTORY);
    rename("q/c", "gone"), symlink(there, "q/c");
    attack(up, flags ? "parent of moved (path)" : "parent of moved");
    system("rm -rf p q gone b s z");
}

static int fresh_file(int flags) {
    unlink("f");
    close(open("f", O_CREAT | O_RDWR, 0600));
    return open("f", flags);
}

static void through_files(int flags, const char *name) {
    char secret[5000];
    snprintf(secret, sizeof secret, "%s/secret", there);
    int f = fresh_file(flags);
    unlink("f"), symlink(secret, "f");
    attack_file(f, name);
    f = fresh_file(flags);
    symlink(secret, "l"), rename("l", "f");
    attack_file(f, name);
    f = fresh_file(flags);
    rename("f", "g"), symlink(secret, "f");
    attack_file(f, name);
    /* The directory of the file is exchanged for a link. */
    mkdir("h", 0755);
    close(open("h/secret", O_CREAT | O_RDWR, 0600));
    f = open("h/secret", flags);
    rename("h", "i"), symlink(there, "h");
    attack_file(f, name);
    /* And its only name removed by another one's. */
    link("i/secret", "second"), unlink("i/secret"), rmdir("i"), symlink(there, "i"), unlink("second");
    symlink(secret, "second");
    system("rm -rf f g h i second stolen-file");
}

int main(int argc, char **argv) {
    share = argv[1], outside = argv[2];
    snprintf(there, sizeof there, "%s/c", outside);
    setvbuf(stdout, NULL, _IOLBF, 0);
    chdir(share);
    through_directories(0);
    through_directories(O_PATH);
    through_files(O_RDWR, "file");
    through_files(O_RDONLY, "file to read");
    through_files(O_PATH, "file (path)");
    puts("done");
    return argc != 3;
}
