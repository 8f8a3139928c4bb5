/*
 * The sites of the simulation (sim.h): what they do with actions, crashes and checkpoints, transfers, and what has to
 * be so in the end.
 */
#ifndef ASH_TESTS_SIM_SITE_H
#define ASH_TESTS_SIM_SITE_H

#include "sim.h"

/* ---- a site ---- */

static struct txn *sim_txn(struct sim *s, uint64_t id)
{
    for (unsigned i = s->txns; i-- > 0;)
        if (s->txn[i].id == id)
            return &s->txn[i];
    return NULL;
}

static struct holder *holder_find(struct site *site, uint64_t id)
{
    struct holder *h = site->holders;
    while (h != NULL && h->id != id)
        h = h->next;
    return h;
}

static struct holder *holder_add(struct site *site, uint64_t id, unsigned account, long delta)
{
    struct holder *h = malloc(sizeof *h);
    *h = (struct holder){id, false, account, delta, site->holders};
    return site->holders = h;
}

static void holder_drop(struct site *site, struct holder *h)
{
    struct holder **at = &site->holders;
    while (*at != h)
        at = &(*at)->next;
    *at = h->next;
    free(h);
}

static struct entry *log_add(struct site *site)
{
    if (site->len == site->room) {
        site->room = site->room > 0 ? 2 * site->room : 16;
        site->log = realloc(site->log, site->room * sizeof *site->log);
    }
    struct entry *e = &site->log[site->len++];
    memset(e, 0, sizeof *e);
    return e;
}

static void log_balances(struct site *site)
{
    struct entry *e = log_add(site);
    e->is_balances = true;
    memcpy(e->balance, site->balance, sizeof e->balance);
    memcpy(e->applied, site->applied, sizeof e->applied);
}

/* A decision that a site acts on. */
static void sim_decided(struct sim *s, uint64_t id, int decision)
{
    struct txn *t = sim_txn(s, id);
    if (t->decided != 0 && t->decided != decision)
        sim_wrong(s, "decided twice, differently");
    t->decided = decision;
}

static void site_apply(struct sim *s, struct site *site, const struct holder *h)
{
    size_t t = (size_t)(sim_txn(s, h->id) - s->txn);
    if (site->applied[t / 64] >> t % 64 & 1)
        sim_wrong(s, "a part was applied twice");
    site->applied[t / 64] |= (uint64_t)1 << t % 64;
    site->balance[h->account] += h->delta;
    if (site->balance[h->account] < 0)
        sim_wrong(s, "an account is overdrawn");
}

/* Takes the lock and votes, if it can. */
static void site_vote(struct sim *s, struct site *site, struct holder *h)
{
    bool locked = site->lock[h->account] != 0, enough = site->balance[h->account] + h->delta >= 0;
    if (locked && s->plan.waits) {
        h->waiting = true;
        return;
    }
    bool yes = !locked && enough;
    int status = ash_2pc_vote(site->machine, h->id, yes, s->now);
    h->waiting = false;
    if (status != 0 && status != -ECANCELED) /* then ASH_2PC_ABORTED is on its way */
        sim_wrong(s, "a vote was refused");
    if (status == 0 && yes)
        site->lock[h->account] = h->id;
    if (status == 0 && !yes)
        holder_drop(site, h);
}

static void site_unlock(struct sim *s, struct site *site, struct holder *h)
{
    unsigned account = h->account;
    bool held = site->lock[account] == h->id;
    holder_drop(site, h);
    if (!held)
        return;
    site->lock[account] = 0;
    for (struct holder *next = site->holders; next != NULL && site->lock[account] == 0;) {
        struct holder *at = next;
        next = next->next;
        if (at->waiting && at->account == account)
            site_vote(s, site, at);
    }
}

static void site_decided(struct sim *s, unsigned i, const struct ash_2pc_action *a)
{
    struct site *site = &s->site[i];
    bool commit = a->kind == ASH_2PC_COMMITTED;
    sim_decided(s, a->id, commit ? 1 : 2);
    if (a->roles == ASH_2PC_COORDINATOR) {
        sim_txn(s, a->id)->told |= commit;
        return;
    }
    struct holder *h = holder_find(site, a->id);
    if (h == NULL) {
        sim_wrong(s, "a decision without data");
        return;
    }
    if (commit)
        site_apply(s, site, h);
    site_unlock(s, site, h);
}

static void site_write(struct sim *s, unsigned i, const struct ash_2pc_action *a)
{
    struct site *site = &s->site[i];
    struct entry *e = log_add(site);
    memcpy(e->record, a->record, a->record_len);
    e->len = a->record_len;
    if (!a->with_data)
        return;
    struct holder *h = holder_find(site, a->id);
    if (h == NULL) { /* decided since, in the same group: the outcome follows in the log */
        struct txn *t = sim_txn(s, a->id);
        for (unsigned p = 0; p < t->parts; p++)
            if (t->shard[p] == i) {
                e->account = t->account[p];
                e->delta = t->delta[p];
            }
        return;
    }
    e->account = h->account;
    e->delta = h->delta;
}

static void site_ask(struct sim *s, unsigned i, uint64_t id)
{
    struct txn *t = sim_txn(s, id);
    for (unsigned p = 0; p < t->parts; p++)
        if (t->shard[p] == i)
            site_vote(s, &s->site[i], holder_add(&s->site[i], id, t->account[p], t->delta[p]));
}

static void site_crash(struct sim *s, unsigned i)
{
    struct site *site = &s->site[i];
    sim_trace(s, i, 0, 200, (int)site->len);
    ash_2pc_destroy(site->machine);
    site->machine = NULL;
    while (site->holders != NULL)
        holder_drop(site, site->holders);
    size_t rest = site->len - site->forced;
    site->len = site->forced + (rest > 0 ? sim_below(s, (unsigned)rest + 1) : 0);
    s->crashes++;
    event_add(s, s->now + MS + (int64_t)sim_below(s, 80) * MS, RESTART, i, NULL);
}

/* Actions are taken in groups: their records are synced together, then the rest of them is done. */
static void site_run(struct sim *s, unsigned i)
{
    struct site *site = &s->site[i];
    struct ash_2pc_action a;
    struct {
        struct ash_2pc_action action;
        struct ash_2pc_msg msg;
    } group[32];
    bool more = true;
    while (more) {
        unsigned n = 0;
        bool force = false;
        while (n < s->plan.group && (more = ash_2pc_next(site->machine, &a) > 0)) {
            sim_trace(s, i, a.id, 100 + (int)a.kind, a.kind == ASH_2PC_SEND ? a.msg->word : 0);
            if (a.kind == ASH_2PC_LOG || a.kind == ASH_2PC_FORCE)
                site_write(s, i, &a);
            force |= a.kind == ASH_2PC_FORCE;
            group[n].action = a;
            if (a.kind == ASH_2PC_SEND)
                memcpy(&group[n].msg, a.msg, a.msg_len);
            n++;
            if (sim_chance(s, s->plan.faults.crash)) {
                site_crash(s, i);
                return;
            }
        }
        if (force)
            site->forced = site->len;
        for (unsigned k = 0; k < n; k++) {
            const struct ash_2pc_action *b = &group[k].action;
            if (b->kind == ASH_2PC_SEND)
                sim_send(s, &group[k].msg, b->msg_len);
            else if (b->kind == ASH_2PC_VOTE)
                site_ask(s, i, b->id);
            else if (b->kind == ASH_2PC_COMMITTED || b->kind == ASH_2PC_ABORTED)
                site_decided(s, i, b);
            more = true;
            if (sim_chance(s, s->plan.faults.crash)) {
                site_crash(s, i);
                return;
            }
        }
    }
    struct ash_2pc_stats stats;
    ash_2pc_stats(site->machine, &stats);
    if (stats.remembered > s->most_remembered)
        s->most_remembered = stats.remembered;
    int64_t due = ash_2pc_due(site->machine);
    if (due != INT64_MAX && (site->alarm <= s->now || due < site->alarm)) {
        site->alarm = due > s->now ? due : s->now;
        event_add(s, site->alarm, ALARM, i, NULL);
    }
}

/* Writes everything anew, then drops what was there. A crash in the middle leaves both. */
static void site_checkpoint(struct sim *s, unsigned i)
{
    struct site *site = &s->site[i];
    site_run(s, i);
    if (site->machine == NULL)
        return;
    sim_trace(s, i, 0, 203, (int)site->len);
    size_t before = site->len;
    log_balances(site);
    if (ash_2pc_checkpoint(site->machine) != 0)
        sim_wrong(s, "a checkpoint failed");
    site_run(s, i);
    if (site->machine == NULL)
        return;
    memmove(site->log, site->log + before, (site->len - before) * sizeof *site->log);
    site->len -= before;
    site->forced -= before;
    s->checkpoints++;
}

static void site_replay(struct sim *s, unsigned i, const struct entry *e)
{
    struct site *site = &s->site[i];
    struct ash_2pc_action what;
    if (e->is_balances) {
        memcpy(site->balance, e->balance, sizeof e->balance);
        memcpy(site->applied, e->applied, sizeof e->applied);
        return;
    }
    if (ash_2pc_recover(site->machine, e->record, sizeof e->record, &what) != (int)e->len) {
        sim_wrong(s, "a record was refused");
        return;
    }
    if (what.kind == ASH_2PC_VOTE) {
        struct holder *h = holder_add(site, what.id, e->account, e->delta);
        if (site->lock[h->account] != 0)
            sim_wrong(s, "two transactions had one lock");
        site->lock[h->account] = what.id;
    } else if (what.kind == ASH_2PC_COMMITTED || what.kind == ASH_2PC_ABORTED) {
        sim_decided(s, what.id, what.kind == ASH_2PC_COMMITTED ? 1 : 2);
        struct holder *h = what.roles & ASH_2PC_PARTICIPANT ? holder_find(site, what.id) : NULL;
        if (h == NULL)
            return;
        if (what.kind == ASH_2PC_COMMITTED)
            site_apply(s, site, h);
        site->lock[h->account] = 0;
        holder_drop(site, h);
    }
}

static void site_start(struct sim *s, unsigned i)
{
    struct site *site = &s->site[i];
    site->machine =
        ash_2pc_create("sim", ASH_2PC_CONFIG(.shard = i, .shards = s->plan.sites, .tries = 4, .retry_ns = 5 * MS));
    if (site->machine == NULL)
        abort();
    for (unsigned a = 0; a < ACCOUNTS; a++)
        site->balance[a] = BALANCE;
    memset(site->lock, 0, sizeof site->lock);
    memset(site->applied, 0, sizeof site->applied);
    site->alarm = 0;
    sim_trace(s, i, 0, 201, (int)site->len);
    for (size_t k = 0; k < site->len; k++)
        site_replay(s, i, &site->log[k]);
    site->forced = site->len;
    if (ash_2pc_start(site->machine, s->now) != 0)
        abort();
    site_run(s, i);
}

/* ---- transfers ---- */

static void sim_begin(struct sim *s, unsigned coordinator)
{
    struct site *site = &s->site[coordinator];
    if (site->machine == NULL || s->txns == TXNS)
        return;
    struct txn *t = &s->txn[s->txns];
    unsigned most = s->plan.sites < PARTS ? s->plan.sites : PARTS;
    *t = (struct txn){.parts = sim_below(s, 4) > 0 ? 2 : 1 + sim_below(s, most)};
    long sum = 0;
    for (unsigned p = 0; p < t->parts; p++) {
        bool taken = true;
        while (taken) {
            t->shard[p] = p == 0 && sim_below(s, 2) > 0 ? coordinator : sim_below(s, s->plan.sites);
            taken = false;
            for (unsigned q = 0; q < p; q++)
                taken |= t->shard[q] == t->shard[p];
        }
        t->account[p] = sim_below(s, ACCOUNTS);
        t->delta[p] = p + 1 < t->parts ? (long)sim_below(s, 60) - 30 : -sum;
        sum += t->delta[p];
    }
    s->txns++;
    if (ash_2pc_prepare(site->machine, t->shard, t->parts, s->now, &t->id) != 0)
        abort();
    sim_trace(s, coordinator, t->id, 202, (int)t->parts);
    if (sim_chance(s, 20))
        ash_2pc_decide(site->machine, t->id, 0, s->now); /* the client has changed its mind */
    site_run(s, coordinator);
}

static void sim_step(struct sim *s)
{
    struct event e = event_take(s);
    struct site *site = &s->site[e.site];
    s->now = e.at;
    s->steps++;
    if (e.what == RESTART && site->machine == NULL) {
        site_start(s, e.site);
    } else if (e.what == BEGIN) {
        sim_begin(s, e.site);
    } else if (site->machine != NULL && e.what == ALARM) {
        ash_2pc_timeout(site->machine, s->now);
        site_run(s, e.site);
    } else if (site->machine != NULL && e.what == DELIVER) {
        sim_trace(s, e.site, e.msg->id, e.msg->word, e.msg->from);
        if (ash_2pc_receive(site->machine, e.msg, sizeof *e.msg, s->now) != 0)
            sim_wrong(s, "a message was refused");
        site_run(s, e.site);
    }
    free(e.msg);
    if (site->machine != NULL && sim_chance(s, 5))
        site_checkpoint(s, e.site);
}

/* ---- the end ---- */

static void sim_check(struct sim *s)
{
    long sum = 0;
    for (unsigned i = 0; i < s->plan.sites; i++) {
        struct ash_2pc_stats stats;
        ash_2pc_stats(s->site[i].machine, &stats);
        if (stats.open + stats.voting + stats.in_doubt + stats.actions > 0)
            sim_wrong(s, "something is still under way");
        if (stats.remembered > 17u * s->plan.sites) /* SWEEP_LEAST of txn/deal.c, for each peer */
            sim_wrong(s, "outcomes are kept that nobody needs");
        if (s->site[i].holders != NULL)
            sim_wrong(s, "data are kept that nobody needs");
        for (unsigned a = 0; a < ACCOUNTS; a++) {
            sum += s->site[i].balance[a];
            if (s->site[i].lock[a] != 0)
                sim_wrong(s, "an account is locked");
        }
    }
    if (sum != (long)(s->plan.sites * ACCOUNTS * BALANCE))
        sim_wrong(s, "money was made or lost");
    for (unsigned t = 0; t < s->txns; t++)
        for (unsigned p = 0; p < s->txn[t].parts; p++) {
            bool applied = s->site[s->txn[t].shard[p]].applied[t / 64] >> t % 64 & 1;
            if (s->txn[t].told && !applied)
                sim_wrong(s, "what a client was told is not so");
            if (applied != (s->txn[t].decided == 1))
                sim_wrong(s, "not all parts are as decided");
        }
}

/* Runs it all; NULL, or what went wrong. sim_end afterwards. */
static const char *sim_run(struct sim *s, const struct plan *plan)
{
    memset(s, 0, sizeof *s);
    s->plan = *plan;
    s->random = plan->seed;
    for (unsigned i = 0; i < plan->sites; i++)
        site_start(s, i);
    for (unsigned t = 0; t < plan->txns; t++)
        event_add(s, (int64_t)sim_below(s, 1000) * plan->faulty_ns / 1000, BEGIN, sim_below(s, plan->sites), NULL);
    while (s->wrong == NULL && s->events > 0 && s->heap[0].at < plan->faulty_ns)
        sim_step(s);
    s->calm = true; /* what is under way arrives; who is down comes back */
    int64_t patience = s->now + 20000 * MS;
    while (s->wrong == NULL && s->events > 0) {
        sim_step(s);
        if (s->now > patience)
            sim_wrong(s, "no end in 20 simulated seconds");
    }
    if (s->wrong == NULL)
        sim_check(s);
    if (s->wrong == NULL) /* and everything that was forced is all that is needed */
        for (unsigned i = 0; i < plan->sites; i++) {
            site_checkpoint(s, i);
            site_crash(s, i);
            site_start(s, i);
        }
    if (s->wrong == NULL)
        sim_check(s);
    return s->wrong;
}

static void sim_end(struct sim *s)
{
    for (unsigned i = 0; i < s->plan.sites; i++) {
        ash_2pc_destroy(s->site[i].machine);
        while (s->site[i].holders != NULL)
            holder_drop(&s->site[i], s->site[i].holders);
        free(s->site[i].log);
    }
    while (s->events > 0)
        free(event_take(s).msg);
    free(s->heap);
}

#endif
