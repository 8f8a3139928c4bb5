/*
 * Ashlar: a lock-free memory allocator. This header includes all others of libashlar.
 */
#ifndef ASHLAR_ASHLAR_H
#define ASHLAR_ASHLAR_H

#define ASHLAR_VERSION_MAJOR 0
#define ASHLAR_VERSION_MINOR 1
#define ASHLAR_VERSION_PATCH 0
#define ASHLAR_VERSION       "0.1.0"

#include <ashlar/arena.h>
#include <ashlar/buf.h>
#include <ashlar/heap.h>
#include <ashlar/malloc.h>
#include <ashlar/mapcache.h>
#include <ashlar/pool.h>
#include <ashlar/profile.h>
#include <ashlar/respool.h>
#include <ashlar/ring.h>
#include <ashlar/stats.h>

#endif
