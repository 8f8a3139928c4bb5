/*
 * A process to be looked at: threads that allocate, pools, arenas, bufs, an isolated heap. Then it obeys lines
 * of standard input: "work" has it allocate for a while, "text FILE", "json FILE" and "prom FILE" have it write its own
 * statistics, "end" ends it. It says "ready" when it rests, at first and after each.
 */
#include <ashlar/ashlar.h>

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { THREADS = 4, BLOCKS = 400 };

static pthread_barrier_t barrier;
static struct ash_pool *pool;

/* Frees most of its own blocks and some of another thread's. */
static void *body(void *arg)
{
    static void *kept[THREADS][BLOCKS];
    size_t self = (size_t)arg;
    for (int i = 0; i < BLOCKS; i++) {
        kept[self][i] = malloc(16 + (size_t)i * 97);
        free(malloc(200));
    }
    pthread_barrier_wait(&barrier);
    for (int i = 0; i < BLOCKS; i += i % 3 + 1)
        free(kept[(self + 1) % THREADS][i]);
    void *object = ash_pool_get(pool);
    ash_pool_put(pool, object);
    pthread_barrier_wait(&barrier);
    pthread_barrier_wait(&barrier); /* rests until the end */
    return NULL;
}

static void work(void)
{
    for (int i = 0; i < 2000000; i++) {
        char *volatile p = malloc(16 + (size_t)(i % 4000));
        free(p);
    }
}

static void dump(const char *line)
{
    static const char *const formats[] = {"text", "json", "prom"};
    char path[4096];
    snprintf(path, sizeof path, "%.*s", (int)strcspn(line + 5, "\n"), line + 5);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    for (int i = 0; i < 3; i++)
        if (strncmp(line, formats[i], 4) == 0)
            ash_stats_dump(fd, (enum ash_format)i);
    close(fd);
}

int main(void)
{
    pthread_t t[THREADS];
    char line[4096] = "";
    pthread_barrier_init(&barrier, NULL, THREADS + 1);
    pool = ash_pool_create("sessions", ASH_POOL_CONFIG(.obj_size = 320));
    for (size_t i = 0; i < THREADS; i++)
        pthread_create(&t[i], NULL, body, (void *)i);
    struct ash_arena *arena = ash_arena_create(NULL, "requests", NULL);
    for (int i = 0; i < 1000; i++) {
        memset(ash_arena_alloc(arena, 100), 1, 100);
        ash_pool_get(pool);
    }
    struct ash_buf buf;
    ash_buf_alloc(&buf, 100, 0);
    ash_heap_create("script", 16 << 20, 0);
    char *large = malloc(5 << 20);
    memset(large, 1, 5 << 20);
    pthread_barrier_wait(&barrier);
    pthread_barrier_wait(&barrier);
    do {
        if (strncmp(line, "work", 4) == 0)
            work();
        else if (line[0] != '\0')
            dump(line);
        printf("ready\n");
        fflush(stdout);
    } while (fgets(line, sizeof line, stdin) != NULL && strcmp(line, "end\n") != 0);
    _exit(large[1] - 1);
}
