/* whiteout OLD NEW: renames and leaves a whiteout; says what came of it. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(int argc, char **argv) {
    enum { RENAME_WHITEOUT = 4 };
    long r = syscall(SYS_renameat2, AT_FDCWD, argv[1], AT_FDCWD, argv[2], RENAME_WHITEOUT);
    puts(r == 0 ? "renamed" : strerror(errno));
    return 0;
}
