/* run_folder.h — the folders that training runs write, compared; runs in processes of their own. Everything that fails ends the
 * test. */
#ifndef TESTS_SUPPORT_RUN_FOLDER_H
#define TESTS_SUPPORT_RUN_FOLDER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

char *joined(const char *dir, const char *name);                /* owned by the caller */
char *file_of(const char *dir, const char *name, size_t *size); /* owned by the caller */
bool has_file(const char *dir, const char *name);
void assert_same_file(const char *a, const char *b, const char *name); /* in both folders */
void assert_same_result(const char *a, const char *b);                 /* weights and configuration */

/* Lines of metrics.csv with the column rows_per_second cut off; owned by the caller. */
char *metrics_without_rates(const char *dir);

int wait_for(pid_t child); /* its exit code, -1 when it was killed */
void sleep_ms(uint64_t ms);

#endif
