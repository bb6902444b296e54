/* json.h — what the analysis found, as JSON: the one place where its fields are named, for commands, server and report.
 * Every call returns a new reference, or NULL when memory ran out. Unknown numbers (NAN) are null. Fields are only ever added.
 */
#ifndef ANALYSIS_JSON_H
#define ANALYSIS_JSON_H

#include "analysis/db.h"
#include "analysis/find.h"
#include "sae/eval/ce.h"

#include <jansson.h>

json_t *feature_stats_to_json(const feature_stats *f);
json_t *feature_card_to_json(const feature_card *card);
json_t *find_result_to_json(const find_result *r);

/* Measures as {value, low, high}. The losses are null where only rows were seen. */
json_t *recon_result_to_json(const recon_result *r);
json_t *ce_result_to_json(const ce_result *r);

#endif
