/*
 * For services that pass messages: which handler a path belongs to (ashlar/router.h).
 */
#ifndef ASHLAR_MSG_H
#define ASHLAR_MSG_H

#include <ashlar/router.h>

#endif
