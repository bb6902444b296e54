#include "cli/outcome.h"

#include <stdio.h>

void outcome_wrote(const char *path, const char *what) { printf("wrote  %s  %s\n", path, what); }

void outcome_again(const parsed_options *o) { printf("again  %s\n", opt_command_line(o)); }
