#include "vm/artifact.h"

#include "ashlar/malloc.h"
#include "base/hash.h"
#include "os/os_clock.h"
#include "os/os_dir.h"
#include "os/os_fork.h"
#include "os/os_wait.h"

#include <errno.h>
#include <limits.h>

void artifact_hash(const struct ash_artcache_key *key, uint64_t hash[2])
{
    static const uint64_t seeds[2] = {HASH_K1, HASH_K3};
    for (unsigned i = 0; i < 2; i++) {
        uint64_t content = hash_bytes(key->content, key->content_len, seeds[i]);
        hash[i] = hash_bytes(key->config, key->config_len, content);
    }
}

struct artifact *artifact_create(const struct ash_artcache_key *key, const uint64_t hash[2])
{
    size_t n;
    if (__builtin_add_overflow(key->content_len, key->config_len, &n) ||
        __builtin_add_overflow(n, sizeof(struct artifact), &n))
        return NULL;
    struct artifact *a = ash_malloc(n);
    if (a == NULL)
        return NULL;
    unsigned char *content = (unsigned char *)(a + 1), *config = content + key->content_len;
    *a = (struct artifact){.refs = 1,
                           .state = ARTIFACT_BUILDING,
                           .hash = {hash[0], hash[1]},
                           .key = {content, key->content_len, config, key->config_len},
                           .maker = os_fork_self()};
    if (key->content_len > 0)
        memcpy(content, key->content, key->content_len);
    if (key->config_len > 0)
        memcpy(config, key->config, key->config_len);
    return a;
}

static bool bytes_equal(const void *a, size_t a_len, const void *b, size_t b_len)
{
    return a_len == b_len && (a_len == 0 || memcmp(a, b, a_len) == 0);
}

bool artifact_is(const struct artifact *a, const struct ash_artcache_key *key,
                 const uint64_t hash[2])
{
    return a->hash[0] == hash[0] && a->hash[1] == hash[1] &&
           bytes_equal(a->key.content, a->key.content_len, key->content, key->content_len) &&
           bytes_equal(a->key.config, a->key.config_len, key->config, key->config_len);
}

size_t artifact_bytes(const struct artifact *a)
{
    return sizeof *a + a->key.content_len + a->key.config_len + a->len;
}

void artifact_unref(struct artifact *a)
{
    /* release: this user's reads; acquire: those of all others, before it goes */
    if (sub_acq_rel(&a->refs, 1) != 1)
        return;
    if (a->map != NULL)
        os_dir_unmap(a->map, a->map_len);
    ash_free(a->block);
    ash_free(a);
}

void artifact_settle(struct artifact *a, enum artifact_state state)
{
    store_release(&a->state, state); /* the data; pairs with artifact_wait */
}

void artifact_wake(struct artifact *a)
{
    os_wake(&a->state, INT_MAX);
}

int artifact_wait(struct artifact *a, int64_t timeout_ns)
{
    uint64_t begin = timeout_ns > 0 ? os_clock_ns() : 0;
    int64_t left = timeout_ns;
    while (load_acquire(&a->state) == ARTIFACT_BUILDING) { /* pairs with artifact_settle */
        if (timeout_ns == 0)
            return -EAGAIN;
        if (timeout_ns > 0) {
            left = timeout_ns - (int64_t)(os_clock_ns() - begin);
            if (left <= 0)
                return -ETIMEDOUT;
        }
        os_wait(&a->state, ARTIFACT_BUILDING, left);
    }
    return 0;
}
