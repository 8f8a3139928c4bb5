/*
 * For runtimes of languages: engines that are as new for every use (ashlar/vmpool.h), when to
 * compile (ashlar/tier.h), compiled code that outlives the process (ashlar/artcache.h), results of
 * pure calls (ashlar/callcache.h).
 */
#ifndef ASHLAR_VM_H
#define ASHLAR_VM_H

#include <ashlar/artcache.h>
#include <ashlar/callcache.h>
#include <ashlar/tier.h>
#include <ashlar/vmpool.h>

#endif
