/* Ashlar's libraries, as the commands that run programs need them. */
#ifndef ASHLAR_TOOLS_LIBRARY_H
#define ASHLAR_TOOLS_LIBRARY_H

#include <stdbool.h>
#include <stddef.h>

/*
 * The path of a library: beside the tool (a build tree), relative to where it was installed, or in
 * the directory of the installation. False, and said where it was looked for, when it is nowhere.
 */
bool library_find(const char *name, char *path, size_t size);

/* Puts the library in front of what is preloaded already. */
bool library_preload(const char *library);

/* Becomes the command. Comes back only with a status to leave with, and has said why. */
int library_exec(char **command);

#endif
