#include "msg/replies.h"

#include "os/os_clock.h"
#include "os/os_wait.h"

#include <limits.h>

static struct request **bucket_of(struct replies *t, uint64_t id)
{
    return &t->bucket[id % REPLY_BUCKETS];
}

void replies_open(struct replies *t, struct request *r, uint64_t id)
{
    struct request **bucket = bucket_of(t, id);
    r->id = id;
    r->reply = NULL;
    store_relaxed(&r->state, REPLY_WAITING);
    os_lock(&t->lock);
    r->next = *bucket;
    *bucket = r;
    os_unlock(&t->lock);
}

bool replies_withdraw(struct replies *t, struct request *r)
{
    os_lock(&t->lock);
    struct request **at = bucket_of(t, r->id);
    while (*at != NULL && *at != r)
        at = &(*at)->next;
    bool found = *at != NULL;
    if (found)
        *at = r->next;
    os_unlock(&t->lock);
    return found;
}

bool replies_wait(struct request *r, int64_t until)
{
    while (load_acquire(&r->state) == REPLY_WAITING) { /* pairs with replies_answer */
        int64_t left = os_left(until);
        if (left == 0)
            return false;
        os_wait(&r->state, REPLY_WAITING, left);
    }
    return true;
}

bool replies_answer(struct replies *t, uint64_t id, struct ash_msg *reply)
{
    os_lock(&t->lock);
    struct request **at = bucket_of(t, id), *r;
    while (*at != NULL && (*at)->id != id)
        at = &(*at)->next;
    r = *at;
    if (r != NULL)
        *at = r->next;
    os_unlock(&t->lock);
    if (r == NULL)
        return false;
    r->reply = reply;
    store_release(&r->state,
                  reply != NULL ? REPLY_HERE : REPLY_NEVER); /* pairs with replies_wait */
    os_wake(&r->state, INT_MAX);
    return true;
}
