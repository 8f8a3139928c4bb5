#include "handtxn.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

struct hand_undo {
    struct hand_undo *older;
    void *where;
    size_t n;
    char bytes[];
};

struct hand_request {
    struct hand_txn *txn;
    struct hand_key *key;
    struct hand_request *behind; /* in the key's queue */
    struct hand_request *next;   /* of the transaction */
};

/* A key that somebody has, or waits for. */
struct hand_key {
    uint64_t key;
    struct hand_key *next;
    struct hand_request *first, *last;
};

static void *take(struct hand_mgr *m, size_t n)
{
    void *p = m->malloc(n);
    if (p == NULL)
        abort();
    return p;
}

static void push(struct hand_list *l, struct hand_txn *t)
{
    t->next = NULL;
    if (l->first == NULL)
        l->first = t;
    else
        l->last->next = t;
    l->last = t;
}

static struct hand_txn *pop(struct hand_list *l)
{
    struct hand_txn *t = l->first;
    if (t != NULL)
        l->first = t->next;
    return t;
}

/* ---- keys; all under the lock ---- */

static struct hand_key **place_of(struct hand_mgr *m, uint64_t key)
{
    uint64_t h = key * 0x9e3779b97f4a7c15u;
    struct hand_key **k = &m->bucket[(h >> 32) % HAND_BUCKETS];
    while (*k != NULL && (*k)->key != key)
        k = &(*k)->next;
    return k;
}

static void request(struct hand_mgr *m, struct hand_txn *t, uint64_t key)
{
    struct hand_key **place = place_of(m, key), *k = *place;
    if (k != NULL && k->last->txn == t)
        return; /* named twice */
    struct hand_request *r = take(m, sizeof *r);
    *r = (struct hand_request){.txn = t, .next = t->requests};
    t->requests = r;
    if (k == NULL) {
        k = take(m, sizeof *k);
        *k = (struct hand_key){.key = key, .first = r};
        *place = k;
    } else {
        k->last->behind = r;
        t->missing++;
    }
    k->last = r;
    r->key = k;
}

static void release(struct hand_mgr *m, struct hand_txn *t)
{
    for (struct hand_request *r = t->requests, *next; r != NULL; r = next) {
        struct hand_key *k = r->key;
        next = r->next;
        k->first = r->behind;
        if (k->first == NULL) {
            *place_of(m, k->key) = k->next;
            m->free(k);
        } else if (--k->first->txn->missing == 0) {
            push(&m->ready, k->first->txn);
        }
        m->free(r);
    }
}

/* ---- what a program calls ---- */

void hand_init(struct hand_mgr *m, unsigned limit)
{
    void *libc = dlopen("libc.so.6", RTLD_NOW | RTLD_NOLOAD);
    if (libc == NULL)
        abort();
    memset(m, 0, sizeof *m);
    *(void **)&m->malloc = dlsym(libc, "malloc");
    *(void **)&m->free = dlsym(libc, "free");
    m->limit = limit;
    pthread_mutex_init(&m->lock, NULL);
}

struct hand_txn *hand_begin(struct hand_mgr *m)
{
    pthread_mutex_lock(&m->lock);
    bool full = m->in_flight == m->limit;
    m->in_flight += !full;
    pthread_mutex_unlock(&m->lock);
    if (full)
        return NULL;
    struct hand_txn *t = take(m, sizeof *t);
    *t = (struct hand_txn){.status = 1};
    return t;
}

void hand_writes(struct hand_mgr *m, struct hand_txn *t, const uint64_t *keys, unsigned n)
{
    t->keys = take(m, n * sizeof *keys);
    memcpy(t->keys, keys, n * sizeof *keys);
    t->key_count = n;
}

void hand_save(struct hand_mgr *m, struct hand_txn *t, void *where, size_t n)
{
    struct hand_undo *u = take(m, sizeof *u + n);
    *u = (struct hand_undo){.older = t->undo, .where = where, .n = n};
    memcpy(u->bytes, where, n);
    t->undo = u;
}

void hand_submit(struct hand_mgr *m, struct hand_txn *t,
                 int (*body)(struct hand_txn *txn, void *arg), void *arg)
{
    t->body = body;
    t->arg = arg;
    pthread_mutex_lock(&m->lock);
    for (unsigned i = 0; i < t->key_count && m->queues; i++)
        request(m, t, t->keys[i]);
    if (t->missing == 0)
        push(&m->ready, t);
    pthread_mutex_unlock(&m->lock);
}

static void run(struct hand_txn *t)
{
    t->status = t->body(t, t->arg);
    for (struct hand_undo *u = t->undo; u != NULL && t->status != 0; u = u->older)
        memcpy(u->where, u->bytes, u->n);
}

unsigned hand_poll(struct hand_mgr *m, struct hand_txn **out, unsigned max)
{
    unsigned n = 0;
    struct hand_txn *t;
    pthread_mutex_lock(&m->lock);
    while (m->done.first == NULL && (t = pop(&m->ready)) != NULL) {
        struct hand_list all = {t, m->ready.first != NULL ? m->ready.last : t};
        m->ready.first = NULL;
        pthread_mutex_unlock(&m->lock);
        for (t = all.first; t != NULL; t = t->next)
            run(t);
        pthread_mutex_lock(&m->lock);
        while ((t = pop(&all)) != NULL) {
            release(m, t);
            push(&m->done, t);
        }
    }
    while (n < max && (t = pop(&m->done)) != NULL)
        out[n++] = t;
    pthread_mutex_unlock(&m->lock);
    return n;
}

void hand_end(struct hand_mgr *m, struct hand_txn *t)
{
    for (struct hand_undo *u = t->undo, *older; u != NULL; u = older) {
        older = u->older;
        m->free(u);
    }
    m->free(t->keys);
    m->free(t);
    pthread_mutex_lock(&m->lock);
    m->in_flight--;
    pthread_mutex_unlock(&m->lock);
}
