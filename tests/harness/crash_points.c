// Counts the durable operations of this process below one folder, and kills it at the n-th: loaded by LD_PRELOAD.
//
// A point is an open for writing, a write, a truncation, a sync, a rename, a link, a removal or a new folder. A write is
// torn: its first half is done. Of a database only the removal of its journal counts, which is what commits.

#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static char folder[4096];
static long limit = 0, count = 0;

void crash_points_arm(const char *below, long at) {
  strncpy(folder, below, sizeof folder - 1);
  limit = at;
  __atomic_store_n(&count, 0, __ATOMIC_SEQ_CST);
}

long crash_points_count(void) { return __atomic_load_n(&count, __ATOMIC_SEQ_CST); }

static int ends(const char *path, const char *suffix) {
  size_t length = strlen(path), tail = strlen(suffix);
  return length >= tail && !strcmp(path + length - tail, suffix);
}

static int counts(const char *path, int removal) {
  if (!folder[0] || !path || strncmp(path, folder, strlen(folder))) return 0;
  if (ends(path, "-journal")) return removal;
  return !strstr(path, ".db") && !strstr(path, ".sqlite");
}

static int dies(void) { return __atomic_add_fetch(&count, 1, __ATOMIC_SEQ_CST) == limit; }

static void die(void) { kill(getpid(), SIGKILL); for (;;) pause(); }

static const char *name_of(int fd, char *buffer) {
  char link[64];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t n = readlink(link, buffer, 4095);
  if (n < 0) return NULL;
  buffer[n] = 0;
  return buffer;
}

static const char *joined(int at, const char *path, char *buffer) {
  if (!path || path[0] == '/') return path;
  char base[4096];
  if (at == AT_FDCWD) {
    if (!getcwd(base, sizeof base)) return path;
  } else if (!name_of(at, base)) {
    return path;
  }
  snprintf(buffer, 8192, "%s/%s", base, path);
  return buffer;
}

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define PATH_POINT(at, path, removal) do { char b_[8192]; if (counts(joined(at, path, b_), removal) && dies()) die(); } while (0)
#define FD_POINT(fd) do { char b_[4096]; if (counts(name_of(fd, b_), 0) && dies()) die(); } while (0)

static int writing(int flags) { return (flags & O_ACCMODE) != O_RDONLY || flags & O_CREAT; }

#define OPEN(name)                                                    \
  int name(const char *path, int flags, ...) {                        \
    va_list list; va_start(list, flags);                              \
    mode_t mode = va_arg(list, mode_t); va_end(list);                 \
    if (writing(flags)) PATH_POINT(AT_FDCWD, path, 0);                \
    return NEXT(name)(path, flags, mode);                             \
  }
OPEN(open)
OPEN(open64)

#define OPENAT(name)                                                  \
  int name(int at, const char *path, int flags, ...) {                \
    va_list list; va_start(list, flags);                              \
    mode_t mode = va_arg(list, mode_t); va_end(list);                 \
    if (writing(flags)) PATH_POINT(at, path, 0);                      \
    return NEXT(name)(at, path, flags, mode);                         \
  }
OPENAT(openat)
OPENAT(openat64)

ssize_t write(int fd, const void *data, size_t size) {
  char b[4096];
  if (folder[0] && counts(name_of(fd, b), 0) && dies()) { NEXT(write)(fd, data, size / 2); die(); }
  return NEXT(write)(fd, data, size);
}

size_t fwrite(const void *data, size_t size, size_t n, FILE *file) {
  char b[4096];
  if (folder[0] && counts(name_of(fileno(file), b), 0) && dies()) { NEXT(fwrite)(data, size, n / 2, file); fflush(file); die(); }
  return NEXT(fwrite)(data, size, n, file);
}

ssize_t writev(int fd, const struct iovec *parts, int n) { FD_POINT(fd); return NEXT(writev)(fd, parts, n); }
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) { FD_POINT(fd); return NEXT(pwrite64)(fd, data, size, at); }
ssize_t sendfile(int out, int in, off_t *at, size_t size) { FD_POINT(out); return NEXT(sendfile)(out, in, at, size); }
ssize_t copy_file_range(int in, off64_t *a, int out, off64_t *b, size_t size, unsigned flags) {
  FD_POINT(out);
  return NEXT(copy_file_range)(in, a, out, b, size, flags);
}
int ftruncate64(int fd, off64_t size) { FD_POINT(fd); return NEXT(ftruncate64)(fd, size); }
int fsync(int fd) { FD_POINT(fd); return NEXT(fsync)(fd); }
int fdatasync(int fd) { FD_POINT(fd); return NEXT(fdatasync)(fd); }
int rename(const char *a, const char *b) { PATH_POINT(AT_FDCWD, b, 0); return NEXT(rename)(a, b); }
int renameat(int x, const char *a, int y, const char *b) { PATH_POINT(y, b, 0); return NEXT(renameat)(x, a, y, b); }
int unlink(const char *path) { PATH_POINT(AT_FDCWD, path, 1); return NEXT(unlink)(path); }
int unlinkat(int at, const char *path, int flags) { PATH_POINT(at, path, 1); return NEXT(unlinkat)(at, path, flags); }
int rmdir(const char *path) { PATH_POINT(AT_FDCWD, path, 0); return NEXT(rmdir)(path); }
int mkdir(const char *path, mode_t mode) { PATH_POINT(AT_FDCWD, path, 0); return NEXT(mkdir)(path, mode); }
int mkdirat(int at, const char *path, mode_t mode) { PATH_POINT(at, path, 0); return NEXT(mkdirat)(at, path, mode); }
int link(const char *a, const char *b) { PATH_POINT(AT_FDCWD, b, 0); return NEXT(link)(a, b); }
int symlink(const char *a, const char *b) { PATH_POINT(AT_FDCWD, b, 0); return NEXT(symlink)(a, b); }
