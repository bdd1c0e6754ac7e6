/* readonly FOLDER: tries every change to a folder that may only be read; it has a file, a folder and a link. Says what was
 * not refused as Linux refuses it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>
#include <unistd.h>

static void refused(const char *what, long result) {
    if (result != -1 || errno != EROFS)
        printf("%s: %ld %s\n", what, result, result < 0 ? strerrorname_np(errno) : "");
}

int main(int argc, char **argv) {
    if (argc != 2 || chdir(argv[1]))
        return 2;
    char text[16] = "";
    struct statvfs s;
    int fd = open("file", O_RDONLY);
    if (read(fd, text, 5) != 5 || strcmp(text, "bytes") || readlink("link", text, 16) != 4 || statvfs(".", &s))
        puts("it cannot be read");
    refused("open to write", open("file", O_WRONLY));
    refused("open for both", open("file", O_RDWR));
    refused("open to append", open("file", O_WRONLY | O_APPEND));
    refused("truncate at open", open("file", O_RDONLY | O_TRUNC));
    refused("create", open("new", O_WRONLY | O_CREAT, 0600));
    refused("without a name", open(".", O_RDWR | O_TMPFILE, 0600));
    refused("truncate", truncate("file", 0));
    refused("mkdir", mkdir("new", 0700));
    refused("mkfifo", mkfifo("new", 0600));
    refused("symlink", symlink("file", "new"));
    refused("link", link("file", "new"));
    refused("unlink", unlink("file"));
    refused("rmdir", rmdir("folder"));
    refused("rename", rename("file", "new"));
    refused("exchange", renameat2(AT_FDCWD, "file", AT_FDCWD, "folder", RENAME_EXCHANGE));
    refused("chmod", chmod("file", 0777));
    refused("chown", chown("file", getuid(), getgid()));
    refused("times", utimensat(AT_FDCWD, "file", NULL, 0));
    refused("fchmod", fchmod(fd, 0777));
    refused("futimens", futimens(fd, NULL));
    refused("attribute", setxattr("file", "user.x", "y", 1, 0));
    refused("access", access("file", W_OK));
    puts("done");
    return 0;
}
