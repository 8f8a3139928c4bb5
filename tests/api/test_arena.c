/*
 * ashlar/arena.h as a program uses it: a transaction's arena with statements as its children, savepoints, cursors that
 * are closed when the memory goes, a result that outlives the scratch memory it was made in. Each step is checked.
 */
#include "ashlar/arena.h"
#include "tap.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>

/* ---- something that holds more than memory ---- */

struct cursor {
    int *open; /* how many there are */
    struct ash_cleanup cleanup;
};

static void cursor_close(void *arg)
{
    struct cursor *c = arg;
    --*c->open;
}

/* A cursor lives in an arena and is closed with it: the cleanup is a part of what it cleans up. */
static struct cursor *cursor_open(struct ash_arena *arena, int *open)
{
    struct cursor *c = ash_arena_zalloc(arena, sizeof *c);
    if (c == NULL)
        return NULL;
    c->open = open;
    ++*open;
    c->cleanup.fn = cursor_close;
    c->cleanup.arg = c;
    ash_arena_on_reset(arena, &c->cleanup);
    return c;
}

/* ---- a list of rows ---- */

struct row {
    struct row *next;
    int id;
    const char *note;
};

static struct row *row_add(struct ash_arena *arena, struct row *next, int id)
{
    struct row *row = ash_arena_alloc(arena, sizeof *row);
    if (row == NULL)
        return NULL;
    row->next = next;
    row->id = id;
    row->note = ash_arena_printf(arena, "row %d of %s", id, "many");
    return row->note != NULL ? row : NULL;
}

static long row_sum(const struct row *row)
{
    long sum = 0;
    for (; row != NULL; row = row->next)
        sum += row->id;
    return sum;
}

static struct ash_arena_stats stats(const struct ash_arena *arena)
{
    struct ash_arena_stats s;
    ash_arena_stats(arena, &s);
    return s;
}

/* ---- the story ---- */

static void savepoints(struct ash_arena *txn)
{
    int open = 0;
    struct row *rows = row_add(txn, NULL, 1);
    struct ash_mark savepoint = ash_arena_mark(txn);
    uint64_t used = stats(txn).used;

    for (int attempt = 0; attempt < 3; attempt++) {
        struct row *more = rows;
        for (int id = 2; id <= 5000; id++)
            more = row_add(txn, more, id);
        cursor_open(txn, &open);
        ash_arena_create(txn, "subquery", NULL);
        is_int(row_sum(more), 5000L * 5001 / 2, "rows in many chunks");
        ok(open == 1 && stats(txn).children == 1, "a cursor, a child");
        ash_arena_rollback(txn, savepoint);
        ok(open == 0 && stats(txn).children == 0, "gone with the rollback");
        ok(stats(txn).used < used + 64, "and so is the memory"); /* but for the record of a spare chunk */
    }
    is_str(rows->note, "row 1 of many", "what was before stays");
}

/* The result is made in a statement's arena, in which nothing else is; the scratch memory goes. */
static struct row *statement(struct ash_arena *txn, int *open)
{
    struct ash_arena *result = ash_arena_create(txn, "result", NULL);
    struct ash_arena *scratch = ash_arena_create(txn, "scratch", ASH_ARENA_CONFIG(.first_chunk = 1024));
    struct row *rows = NULL;
    cursor_open(scratch, open);
    for (int id = 1; id <= 100; id++) {
        int *copy = ash_arena_memdup(scratch, &id, sizeof id);
        rows = row_add(result, rows, *copy);
    }
    ash_arena_destroy(scratch);
    ash_arena_merge(txn, result);
    return rows;
}

/* A buffer that grows where it is, since it is what was allocated last. */
static void growing(struct ash_arena *txn)
{
    size_t room = 16, n = 0;
    char *text = ash_arena_alloc(txn, room);
    for (int i = 0; i < 100; i++) {
        if (n + 8 > room) {
            text = ash_arena_realloc(txn, text, room, 2 * room);
            room *= 2;
        }
        n += (size_t)snprintf(text + n, room - n, "%d,", i);
    }
    text = ash_arena_realloc(txn, text, room, n + 1);
    ok(strncmp(text, "0,1,2,", 6) == 0 && strcmp(text + n - 3, "99,") == 0, "a text that grew");
    is_str(ash_arena_strdup(txn, "abc"), "abc", "a copy");
    is_str(ash_arena_strndup(txn, "abcdef", 3), "abc", "of a part");
}

static void limits(struct ash_arena *txn)
{
    ash_arena_limit(txn, 1 << 20);
    struct ash_arena *statement = ash_arena_create(txn, "greedy", NULL);
    size_t n = 0;
    while (ash_arena_alloc(statement, 1000) != NULL)
        n += 1000;
    ok(errno == ENOMEM && n > 700000 && n < 1 << 20, "a transaction's limit holds for its statements: %zu", n);
    ok(stats(txn).tree_total <= 1 << 20 && stats(statement).refused == 1, "and is counted");
    ash_arena_destroy(statement);
    ok(ash_arena_alloc(txn, 1000) != NULL, "there is memory again");
    ash_arena_limit(txn, 0);
}

int main(void)
{
    int open = 0;
    struct ash_arena *txn = ash_arena_create(NULL, "transaction", NULL);
    for (int round = 0; round < 3; round++) {
        savepoints(txn);
        struct row *rows = statement(txn, &open);
        is_int(open, 0, "the scratch memory's cursor is closed");
        is_int(row_sum(rows), 5050, "the result is the transaction's");
        growing(txn);
        limits(txn);
        cursor_open(txn, &open);
        ash_arena_reset(txn);
        ok(open == 0 && stats(txn).children == 0, "commit: nothing is left");
    }
    ash_arena_destroy(txn);
    return tap_done();
}
