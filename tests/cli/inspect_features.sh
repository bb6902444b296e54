cp golden/../fuzz/corpus/features_db/valid valid.db
cp golden/../fuzz/corpus/features_db/cut_at_5000 cut.db
cp golden/../fuzz/corpus/hdf5/valid_codes valid.codes.h5
cp golden/../fuzz/corpus/hdf5/lies_codes_few_values lies.codes.h5
sae inspect valid.db
sae inspect valid.db --json
sae inspect valid.codes.h5
sae inspect cut.db; echo $?
sae inspect lies.codes.h5; echo $?
