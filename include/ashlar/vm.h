/*
 * For runtimes of languages: when to compile (ashlar/tier.h), compiled code that outlives the
 * process (ashlar/artcache.h), results of pure calls (ashlar/callcache.h).
 */
#ifndef ASHLAR_VM_H
#define ASHLAR_VM_H

#include <ashlar/artcache.h>
#include <ashlar/callcache.h>
#include <ashlar/tier.h>

#endif
