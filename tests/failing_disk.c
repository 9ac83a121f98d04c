/* A disk that fails when told to, for one process: LD_PRELOAD.

   DISK_FILE is the database; it and its write-ahead log (-wal) are concerned, every other file is left alone.
   DISK_FAULT names a file that holds one word:

   ok         nothing fails
   full       no write finds room: ENOSPC, as where nothing is written in place
   write      no write succeeds: EIO
   sync-lost  fsync fails, and what was written since the last one never gets to the disk. As Linux does it, the
              pages count as clean afterwards: a later fsync succeeds without them.
   sync-kept  fsync fails, and yet everything got to the disk

   What is on the disk is kept in the folder DISK_COPY, page by page: put in the place of the files it is what would be
   found after the power failed. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PAGE 4096
#define PAGES 65536

static const char *const suffixes[] = {"", "-wal"};
static const char *const names[] = {"database", "log"};
static unsigned char dirty[2][PAGES];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void *real(const char *name) {
    void *found = dlsym(RTLD_NEXT, name);
    if (!found) abort();
    return found;
}

/* Which of the two files a descriptor is of; -1 for any other. */
static int which(int fd) {
    const char *file = getenv("DISK_FILE");
    if (!file) return -1;
    char link[64], path[4096], wanted[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t size = readlink(link, path, sizeof path - 1);
    if (size < 0) return -1;
    path[size] = 0;
    for (int i = 0; i < 2; i++) {
        snprintf(wanted, sizeof wanted, "%s%s", file, suffixes[i]);
        if (!strcmp(path, wanted)) return i;
    }
    return -1;
}

static int fault_is(const char *word) {
    char found[32] = "";
    int fd = open(getenv("DISK_FAULT"), O_RDONLY | O_CLOEXEC);
    if (fd < 0) return 0;
    ssize_t size = read(fd, found, sizeof found - 1);
    close(fd);
    return size > 0 && !strcmp(found, word);
}

static int copy_of(int which) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", getenv("DISK_COPY"), names[which]);
    return open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
}

/* Let the pages that were written since the last fsync get to the disk, or not. */
static void settle(int fd, int which, int kept) {
    ssize_t (*write_at)(int, const void *, size_t, off_t) = real("pwrite");
    int copy = kept ? copy_of(which) : -1;
    char page[PAGE];
    for (long i = 0; i < PAGES; i++) {
        if (!dirty[which][i]) continue;
        dirty[which][i] = 0;
        ssize_t size = kept ? pread(fd, page, PAGE, i * PAGE) : 0;
        if (size > 0 && write_at(copy, page, size, i * PAGE) != size) abort();
    }
    if (copy >= 0) close(copy);
}

static ssize_t write_at(const char *name, int fd, const void *data, size_t size, off_t at) {
    ssize_t (*next)(int, const void *, size_t, off_t) = real(name);
    int file = which(fd);
    if (file < 0) return next(fd, data, size, at);
    if (fault_is("write")) { errno = EIO; return -1; }
    if (fault_is("full")) { errno = ENOSPC; return -1; }
    pthread_mutex_lock(&lock);
    ssize_t done = next(fd, data, size, at);
    for (off_t i = at / PAGE; done > 0 && i <= (at + done - 1) / PAGE; i++) {
        if (i >= PAGES) abort();
        dirty[file][i] = 1;
    }
    pthread_mutex_unlock(&lock);
    return done;
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t at) { return write_at("pwrite", fd, data, size, at); }
ssize_t pwrite64(int fd, const void *data, size_t size, off_t at) { return write_at("pwrite64", fd, data, size, at); }

static int sync_file(const char *name, int fd) {
    int (*next)(int) = real(name);
    int file = which(fd);
    if (file < 0) return next(fd);
    int lost = fault_is("sync-lost"), failed = lost || fault_is("sync-kept");
    pthread_mutex_lock(&lock);
    settle(fd, file, !lost);
    pthread_mutex_unlock(&lock);
    if (failed) { errno = EIO; return -1; }
    return next(fd);
}

int fsync(int fd) { return sync_file("fsync", fd); }
int fdatasync(int fd) { return sync_file("fdatasync", fd); }

static int cut(const char *name, int fd, off_t size) {
    int (*next)(int, off_t) = real(name);
    int file = which(fd);
    if (file >= 0) {
        int copy = copy_of(file);
        if (next(copy, size)) abort();
        close(copy);
    }
    return next(fd, size);
}

int ftruncate(int fd, off_t size) { return cut("ftruncate", fd, size); }
int ftruncate64(int fd, off_t size) { return cut("ftruncate64", fd, size); }
