/*
 * Texts as a program for text handles them: short-lived pieces of a few bytes to a few lines, and a
 * hash table of chained nodes that counts words and grows until the text is done.
 *
 * For every line: words are drawn and joined in a buffer that doubles by realloc; the line is
 * copied at its exact size, one word is replaced in it, it is split into copies of its words, and
 * they are counted, each new one as a node with a key of its own. After LINES lines the words that
 * came more than once are joined to a summary and the table is dropped. One operation is one call
 * of malloc or realloc, with its free.
 *
 * There are `blocks` words of 2 to 15 letters; the first ones are the most frequent.
 */
#include "patterns.h"

#include <stdio.h>
#include <string.h>

enum { LINES = 400, LINE_WORDS = 24, WORD_MAX = 16, FIRST_SLOTS = 64, FIRST_ROOM = 16 };

struct node {
    struct node *next;
    char *key;
    uint64_t hash;
    size_t count;
};

struct table {
    struct node **slots; /* a power of two of them */
    size_t size;
    size_t used;
};

struct text {
    char *p;
    size_t length;
    size_t room;
};

struct work {
    struct rng rng;
    size_t allocations;
    size_t word_count;
    char (*words)[WORD_MAX];
    size_t check; /* letters counted less those the table knows: zero at the end of a text */
};

/* ---- allocating and counting it ---- */

static void *take(struct work *w, size_t n)
{
    void *p = keep(malloc(n));
    if (p == NULL)
        die("out of memory");
    w->allocations++;
    return p;
}

static char *copy(struct work *w, const char *from, size_t length)
{
    char *p = take(w, length + 1);
    memcpy(p, from, length);
    p[length] = '\0';
    return p;
}

/* ---- lines ---- */

static void text_append(struct work *w, struct text *t, const char *from, size_t length)
{
    while (t->length + length + 1 > t->room) {
        t->room = t->room == 0 ? FIRST_ROOM : 2 * t->room;
        t->p = keep(realloc(t->p, t->room));
        if (t->p == NULL)
            die("out of memory");
        w->allocations++;
    }
    memcpy(t->p + t->length, from, length);
    t->length += length;
    t->p[t->length] = '\0';
}

/* Any word up to any word. */
static const char *word_draw(struct work *w)
{
    size_t k = rng_below(&w->rng, w->word_count);
    return w->words[rng_below(&w->rng, k + 1)];
}

/* A line of words with blanks between them, at its exact size. */
static char *line_build(struct work *w)
{
    struct text t = {NULL, 0, 0};
    size_t count = 1 + rng_below(&w->rng, LINE_WORDS);
    for (size_t i = 0; i < count; i++) {
        const char *word = word_draw(w);
        if (i > 0)
            text_append(w, &t, " ", 1);
        text_append(w, &t, word, strlen(word));
    }
    char *line = copy(w, t.p, t.length);
    free(t.p);
    return line;
}

/* The line's words as an array of copies, which grows as they are found. */
static char **line_split(struct work *w, const char *line, size_t *count)
{
    char **words = NULL;
    size_t room = 0;
    *count = 0;
    for (const char *p = line; *p != '\0';) {
        size_t length = strcspn(p, " ");
        if (*count == room) {
            room = room == 0 ? 4 : 2 * room;
            words = keep(realloc(words, room * sizeof *words));
            if (words == NULL)
                die("out of memory");
            w->allocations++;
        }
        words[(*count)++] = copy(w, p, length);
        p += length + (p[length] == ' ');
    }
    return words;
}

/* The line with every occurrence of a text replaced, in a block of the new length. */
static char *line_replace(struct work *w, const char *line, const char *old, const char *new)
{
    size_t old_length = strlen(old);
    size_t new_length = strlen(new);
    size_t found = 0;
    for (const char *p = line; (p = strstr(p, old)) != NULL; p += old_length)
        found++;
    char *result = take(w, strlen(line) + found * new_length - found * old_length + 1);
    char *to = result;
    const char *from = line;
    for (const char *p; (p = strstr(from, old)) != NULL; from = p + old_length) {
        memcpy(to, from, (size_t)(p - from));
        to += p - from;
        memcpy(to, new, new_length);
        to += new_length;
    }
    strcpy(to, from);
    return result;
}

/* ---- counting words ---- */

static uint64_t hash_of(const char *word)
{
    uint64_t hash = 0xCBF29CE484222325u;
    for (; *word != '\0'; word++)
        hash = (hash ^ (unsigned char)*word) * 0x100000001B3u;
    return hash ^ hash >> 32;
}

static void table_grow(struct work *w, struct table *t)
{
    size_t size = t->size == 0 ? FIRST_SLOTS : 2 * t->size;
    struct node **slots = take(w, size * sizeof *slots);
    memset(slots, 0, size * sizeof *slots);
    for (size_t i = 0; i < t->size; i++) {
        for (struct node *n = t->slots[i]; n != NULL;) {
            struct node *next = n->next;
            n->next = slots[n->hash & (size - 1)];
            slots[n->hash & (size - 1)] = n;
            n = next;
        }
    }
    free(t->slots);
    t->slots = slots;
    t->size = size;
}

static void table_count(struct work *w, struct table *t, const char *word)
{
    if (t->used >= t->size)
        table_grow(w, t);
    uint64_t hash = hash_of(word);
    struct node **slot = &t->slots[hash & (t->size - 1)];
    struct node *n = *slot;
    while (n != NULL && (n->hash != hash || strcmp(n->key, word) != 0))
        n = n->next;
    if (n == NULL) {
        n = take(w, sizeof *n);
        *n = (struct node){*slot, copy(w, word, strlen(word)), hash, 0};
        *slot = n;
        t->used++;
    }
    n->count++;
    w->check += strlen(word);
}

/* Joins the words that came at least twice, each with its count, and drops the table. */
static void table_drop(struct work *w, struct table *t)
{
    struct text summary = {NULL, 0, 0};
    for (size_t i = 0; i < t->size; i++) {
        for (struct node *n = t->slots[i]; n != NULL;) {
            struct node *next = n->next;
            w->check -= n->count * strlen(n->key);
            if (n->count > 1) {
                char count[24];
                int length = snprintf(count, sizeof count, " %zu\n", n->count);
                text_append(w, &summary, n->key, strlen(n->key));
                text_append(w, &summary, count, (size_t)length);
            }
            free(n->key);
            free(n);
            n = next;
        }
    }
    free(t->slots);
    free(keep(summary.p));
}

/* ---- the pattern ---- */

static void document(struct work *w)
{
    struct table t = {NULL, 0, 0};
    for (size_t i = 0; i < LINES; i++) {
        char *line = line_build(w);
        char *changed = line_replace(w, line, word_draw(w), word_draw(w));
        size_t count;
        free(line);
        char **words = line_split(w, changed, &count);
        for (size_t k = 0; k < count; k++)
            table_count(w, &t, words[k]);
        for (size_t k = 0; k < count; k++)
            free(words[k]);
        free(words);
        free(changed);
    }
    table_drop(w, &t);
    if (w->check != 0)
        die("words were lost");
}

struct result pattern_strings(const struct settings *s)
{
    struct work w = {.rng = rng_init(s->seed, 0), .word_count = s->blocks};
    w.words = get_memory(s->blocks * sizeof *w.words);
    for (size_t i = 0; i < s->blocks; i++) {
        size_t length = 2 + rng_below(&w.rng, WORD_MAX - 2);
        for (size_t k = 0; k < length; k++)
            w.words[i][k] = (char)('a' + rng_below(&w.rng, 26));
    }
    uint64_t begin = clock_ns();
    while (w.allocations < s->ops)
        document(&w);
    uint64_t ns = clock_ns() - begin;
    free(w.words);
    return (struct result){ns, w.allocations};
}
