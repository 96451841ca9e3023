package deltalog

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"deckle/sim/testworld/objects"
	"deckle/sinks"
)

// TestFeatures: a table with a feature is written, or refused by the feature's name, with the way back. They are those
// of the protocol and of the newest Spark and kernels; true for those that readers have to know, too.
func TestFeatures(t *testing.T) {
	taken := map[string]bool{"appendOnly": false, "invariants": false, "checkConstraints": false,
		"changeDataFeed": false, "generatedColumns": false, "identityColumns": false,
		"allowColumnDefaults": false, "inCommitTimestamp": false,
		"checkpointProtection": false, "vacuumProtocolCheck": true, "timestampNtz": true, "columnMapping": true,
		"deletionVectors": true}
	refused := map[string]bool{"v2Checkpoint": true, "typeWidening": true,
		"typeWidening-preview": true, "variantType": true, "variantType-preview": true, "variantShredding": true,
		"variantShredding-preview": true, "catalogManaged": true, "catalogOwned": true, "catalogOwned-preview": true,
		"redirectReaderWriter-preview": true, "geospatial": true, "rowTracking": false, "domainMetadata": false,
		"clustering": false, "icebergCompatV1": false, "icebergCompatV2": false, "icebergCompatV3": false,
		"icebergWriterCompatV1": false, "inCommitTimestamp-preview": false, "coordinatedCommits-preview": false,
		"collations-preview": false, "materializePartitionColumns": false, "redirectWriterOnly-preview": false,
		"soon": true, "appendonly": false}
	try := func(feature string, readers bool) error {
		p := &Protocol{MinReaderVersion: 1, MinWriterVersion: 7, WriterFeatures: []string{feature}}
		if readers {
			p.MinReaderVersion, p.ReaderFeatures = 3, []string{feature}
		}
		mem := objects.NewMem(nil)
		l := open(t, writerOptions(mem))
		body, err := encodeCommit(&CommitInfo{}, p, nil, nil, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		mem.Overwrite(l.commitKey(1), body)
		return l.Submit(context.Background(),
			&Change{Parts: on(l, "a", 1), Last: true, Adds: []Add{add("f", Origin{})}})
	}
	for feature, readers := range taken {
		if err := try(feature, readers); err != nil {
			t.Errorf("%s: %v", feature, err)
		}
	}
	for feature, readers := range refused {
		var stop *sinks.StopError
		if err := try(feature, readers); !errors.As(err, &stop) || stop.Hint == "" ||
			!strings.Contains(err.Error(), fmt.Sprintf("feature %q is not supported", feature)) {
			t.Errorf("%s: %v", feature, err)
		}
	}
}
