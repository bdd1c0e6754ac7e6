/* tmpfs by mount(2), with its limits. Needs rights that a run may not have, natively or inside: then it says the same. */
#include "guest.h"
#include <sys/mount.h>
#include <sys/statfs.h>
#include <sys/xattr.h>

static char dir[64], name[128];
static const char *in(const char *file) {
    snprintf(name, sizeof name, "%s/%s", dir, file);
    return name;
}

/* A namespace of its own natively, so that nothing stays; inside there is only one. */
static int may(void) {
    unshare(CLONE_NEWNS);
    mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL);
    snprintf(dir, sizeof dir, "/tmp/occlum-mounts-XXXXXX");
    CHECK(mkdtemp(dir) != NULL);
    if (mount("none", dir, "tmpfs", 0, "size=64k,nr_inodes=8,mode=750,uid=5,gid=6") == 0)
        return 1;
    CHECK(errno == EPERM);
    rmdir(dir);
    return 0;
}

CASE(sizes) {
    if (!may()) {
        puts("16 pages, 8 nodes, mode 750\n16 pages, then ENOSPC\nafter removal: 4 pages");
        return;
    }
    struct statfs s;
    struct stat st;
    CHECK(statfs(dir, &s) == 0 && s.f_type == 0x01021994 && stat(dir, &st) == 0 && st.st_uid == 5 && st.st_gid == 6);
    printf("%ld pages, %ld nodes, mode %o\n", (long)s.f_blocks, (long)s.f_files, st.st_mode & 07777);
    CHECK(s.f_bfree == 16 && s.f_ffree == 7);
    int fd = open(in("file"), O_RDWR | O_CREAT, 0644);
    static char page[4096];
    int written = 0;
    while (write(fd, page, sizeof page) == sizeof page)
        written++;
    printf("%d pages, then %s\n", written, strerrorname_of(errno));
    CHECK(pwrite(fd, page, sizeof page, 0) == sizeof page);
    CHECK(ftruncate(fd, 4 * 4096) == 0 && statfs(dir, &s) == 0 && s.f_bfree == 12);
    int more = 0;
    char other[20];
    for (int i = 0; i < 10; i++) {
        sprintf(other, "n%d", i);
        int f = open(in(other), O_RDWR | O_CREAT, 0644);
        if (f < 0)
            break;
        close(f);
        more++;
    }
    CHECK(more == 6 && errno == ENOSPC);
    CHECK(statfs(dir, &s) == 0 && s.f_ffree == 0);
    CHECK_ERRNO(umount(dir), EBUSY);
    CHECK(unlink(in("n0")) == 0 && symlink("x", in("link")) == 0 && unlink(in("n1")) == 0 && mkdir(in("d"), 0755) == 0);
    printf("after removal: %ld pages\n", (long)(s.f_blocks - s.f_bfree));
    close(fd);
    CHECK(umount(dir) == 0 && access(in("file"), F_OK) == -1);
    CHECK(rmdir(dir) == 0);
}

CASE(mount_errors) {
    if (!may()) {
        CHECK_ERRNO(umount("/proc"), EPERM);
        return;
    }
    CHECK_ERRNO(mount("none", in("none"), "tmpfs", 0, NULL), ENOENT);
    CHECK_ERRNO(mount("none", dir, "no such type", 0, NULL), ENODEV);
    CHECK(mkdir(in("sub"), 0755) == 0);
    CHECK_ERRNO(mount("none", in("sub"), "tmpfs", 0, "size=abc"), EINVAL);
    CHECK_ERRNO(mount("none", in("sub"), "tmpfs", 0, "what=1"), EINVAL);
    CHECK_ERRNO(mount("none", (void *)8, "tmpfs", 0, NULL), EFAULT);
    close(open(in("plain"), O_CREAT | O_RDWR, 0600));
    CHECK_ERRNO(mount("none", in("plain"), "tmpfs", 0, NULL), ENOTDIR);
    CHECK(mount("none", in("sub"), "tmpfs", MS_RDONLY, "size=50%") == 0);
    CHECK_ERRNO(open(in("sub/x"), O_CREAT | O_RDWR, 0600), EROFS);
    CHECK_ERRNO(umount(dir), EBUSY);
    CHECK_ERRNO(umount2(in("sub"), 64), EINVAL);
    CHECK_ERRNO(umount(in("plain")), EINVAL);
    CHECK(umount2(in("sub"), MNT_DETACH) == 0);
    CHECK(chdir(dir) == 0);
    CHECK_ERRNO(umount(dir), EBUSY);
    CHECK(chdir("/") == 0 && umount(dir) == 0 && rmdir(dir) == 0);
    CHECK_ERRNO(umount(dir), ENOENT);
}
