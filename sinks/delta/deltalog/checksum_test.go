package deltalog

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"deckle/sim/testworld/objects"
)

// replayed is a second reading of a log, as the protocol says it, from its commits alone.
type replayed struct {
	files    map[string]float64
	txns     map[string]any
	metadata any
	protocol any
}

// replay reads the commits of the log up to a version as JSON, without this package's types.
func replay(t *testing.T, mem *objects.Mem, l *Log, to int64) replayed {
	t.Helper()
	r := replayed{files: map[string]float64{}, txns: map[string]any{}}
	for v := range to + 1 {
		data, err := mem.Get(t.Context(), l.commitKey(v))
		if err != nil {
			t.Fatal(err)
		}
		var lines []map[string]map[string]any
		for line := range strings.Lines(string(data)) {
			var a map[string]map[string]any
			if err := json.Unmarshal([]byte(line), &a); err != nil {
				t.Fatal(err)
			}
			lines = append(lines, a)
		}
		for _, a := range lines {
			if x := a["remove"]; x != nil {
				delete(r.files, x["path"].(string))
			}
		}
		for _, a := range lines {
			if x := a["add"]; x != nil {
				r.files[x["path"].(string)] = x["size"].(float64)
			}
			if x := a["txn"]; x != nil {
				r.txns[x["appId"].(string)] = x
			}
			if x := a["metaData"]; x != nil {
				r.metadata = x
			}
			if x := a["protocol"]; x != nil {
				r.protocol = x
			}
		}
	}
	return r
}

// checkChecksum compares one checksum with the log, field by field, and reports whether there is one.
func checkChecksum(t *testing.T, mem *objects.Mem, l *Log, v int64) bool {
	t.Helper()
	data, err := mem.Get(t.Context(), l.checksumKey(v))
	if err != nil {
		return false
	}
	var got map[string]any
	if err := json.Unmarshal(data, &got); err != nil {
		t.Fatalf("checksum %d: %v: %s", v, err, data)
	}
	want := replay(t, mem, l, v)
	size := 0.0
	for _, n := range want.files {
		size += n
	}
	txns := map[string]any{}
	if list, ok := got["setTransactions"].([]any); ok {
		for _, x := range list {
			txns[x.(map[string]any)["appId"].(string)] = x
		}
	}
	for name, pair := range map[string][2]any{
		"tableSizeBytes": {got["tableSizeBytes"], size}, "numFiles": {got["numFiles"], float64(len(want.files))},
		"numMetadata": {got["numMetadata"], 1.0}, "numProtocol": {got["numProtocol"], 1.0},
		"metadata": {got["metadata"], want.metadata}, "protocol": {got["protocol"], want.protocol},
		"setTransactions": {txns, want.txns},
	} {
		if !reflect.DeepEqual(pair[0], pair[1]) {
			t.Errorf("checksum %d: %s is %v, want %v", v, name, pair[0], pair[1])
		}
	}
	commit, err := mem.Get(t.Context(), l.commitKey(v))
	if err != nil || !strings.Contains(string(commit), fmt.Sprintf("%q", got["txnId"])) {
		t.Errorf("checksum %d: txnId %v is not that of the commit", v, got["txnId"])
	}
	return true
}

// TestChecksums: two writers and other tools change a table, whose tools add files that are live already, remove some
// that are not, or leave out their sizes; checkpoints come and go, answers are lost, and logs are opened anew. No
// checksum is ever wrong, and after commits of Deckle alone each version has one.
func TestChecksums(t *testing.T) {
	for _, keep := range []bool{true, false} {
		t.Run(fmt.Sprint("files kept: ", keep), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(5, 6))
			mem := objects.NewMem(nil)
			opts := writerOptions(mem)
			opts.KeepFiles = keep
			logs := []*Log{open(t, opts), open(t, opts)}
			keeper := open(t, writerOptions(mem)) // knows the files
			wait := func() {
				for _, l := range logs {
					l.keeper.wait.Wait()
				}
			}
			refresh := func(l *Log) {
				for l.Refresh(t.Context()) != nil { // an injected fault
				}
			}
			for step := range int64(400) {
				switch k := rng.IntN(20); {
				case k == 0: // another tool
					mem.SetFaults(0, objects.Faults{})
					refresh(keeper)
					s, sized := snapshot(keeper), rng.IntN(2) == 0
					var adds []Add
					var removes []Remove
					for f := range s.All() {
						switch rng.IntN(12) {
						case 0: // statistics anew, and another size than it says
							adds = append(adds, Add{Path: f.Path, PartitionValues: map[string]string{"d": f.Partition},
								Size: f.Size + 1, DataChange: false})
						case 1:
							r := Remove{Path: f.Path}
							if sized {
								r.Size = &f.Size
							}
							removes = append(removes, r)
						}
					}
					removes = append(removes, Remove{Path: fmt.Sprint("nowhere", step), Size: new(int64)})
					b, err := encodeCommit(&CommitInfo{EngineInfo: "another"}, nil, nil, nil, removes, adds)
					if err != nil {
						t.Fatal(err)
					}
					if err := mem.PutIfAbsent(t.Context(), keeper.commitKey(s.Version+1), b); err != nil {
						t.Fatal(err)
					}
				case k == 1:
					wait()
					mem.SetFaults(0, objects.Faults{})
					i := rng.IntN(2)
					_ = logs[i].Close()
					logs[i] = open(t, opts)
				case k == 2:
					mem.SetFaults(uint64(step), objects.Faults{Lost: 0.3, OwnTwice: 0.2, Before: 0.1})
				case k == 3:
					mem.SetFaults(0, objects.Faults{})
				case k == 4 && keep:
					refresh(keeper)
					var removes []string
					now := snapshot(keeper)
					for f := range now.All() {
						if rng.IntN(9) == 0 {
							removes = append(removes, f.Path)
						}
					}
					i := rng.IntN(2)
					_ = logs[i].Submit(t.Context(), &Change{Parts: on(logs[i], fmt.Sprint("r", i), step+1), Last: true,
						Removes: removes})
				default:
					a := add(fmt.Sprintf("d=2024-01-02/f%d", step), Origin{true, 1, uint64(step), uint64(step) + 1})
					a.Size = rng.Int64N(1e6)
					i := rng.IntN(2)
					_ = logs[i].Submit(t.Context(), &Change{Parts: on(logs[i], fmt.Sprint("x", i, rng.IntN(4)), step+1),
						Last: true, Adds: []Add{a}})
				}
				if step%50 == 49 {
					wait()
				}
			}
			wait()
			mem.SetFaults(0, objects.Faults{})
			refresh(keeper)
			last, with := snapshot(keeper).Version, 0
			for v := range last + 1 {
				if checkChecksum(t, mem, keeper, v) {
					with++
				}
			}
			// Without files most foreign commits make the totals uncertain until the next checkpoint, whose time is a
			// matter of chance: no share is promised.
			if keep && with < int(last)*2/3 || with == 0 {
				t.Errorf("%d of %d versions have a checksum", with, last)
			}
			refresh(logs[0])
			s := snapshot(logs[0])
			if err := logs[0].WriteCheckpoint(t.Context(), s.Version, s.Checkpoint); err != nil {
				t.Fatal(err)
			}
			// What has been counted for the checkpoint is certain again, until somebody else commits.
			for n := range int64(20) {
				submit(t, logs[0], &Change{Parts: on(logs[0], "last", n+1), Last: true,
					Adds: []Add{add(fmt.Sprint("last", n), Origin{})}})
				logs[0].keeper.wait.Wait()
				if !checkChecksum(t, mem, keeper, snapshot(logs[0]).Version) {
					t.Errorf("no checksum of commit %d after a checkpoint", n)
				}
			}
			t.Logf("%d of %d versions have a checksum", with, last+1)
		})
	}
}

// Too many txn actions are left out as a whole, never listed in part.
func TestChecksumOfManyTxns(t *testing.T) {
	s := newSnapshot(false, false, 0)
	s.setMetadata(&Metadata{})
	s.Protocol = &Protocol{MinReaderVersion: 3, MinWriterVersion: 7}
	for i := range maxChecksumTxns + 1 {
		b, err := s.encodeChecksum("x")
		var v versionChecksum
		if err = errors.Join(err, json.Unmarshal(b, &v)); err != nil || len(v.SetTransactions) != i {
			t.Fatalf("%d of %d txns, %v", len(v.SetTransactions), i, err)
		}
		s.Txns[fmt.Sprint(i)] = Txn{AppID: fmt.Sprint(i)}
	}
	b, err := s.encodeChecksum("x")
	if err != nil || strings.Contains(string(b), "setTransactions") ||
		!strings.Contains(string(b), `"readerFeatures":[],"writerFeatures":[]`) {
		t.Fatalf("%s, %v", b, err)
	}
}
