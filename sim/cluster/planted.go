package cluster

import (
	"bytes"
	"io"

	"github.com/cockroachdb/pebble/v2/vfs"

	"deckle/sim"
)

// planted looks for what the rules about personal data take away or change, in every byte that the cluster has: logs,
// states and snapshots of all members (sealed ones show nothing), and the objects of the tables. Letters are looked at
// where they are compared.
func (o *oracle) planted() {
	value := []byte(sim.Planted)
	for _, m := range o.w.members {
		o.plantedBelow(m.disk.memory(), m.name, "data", [][]byte{value})
	}
	for name, content := range o.w.objects.Contents() {
		if bytes.Contains(content, value) {
			o.w.history.fail("the object %s has a value that a rule about personal data keeps back", name)
		}
	}
}

func (o *oracle) plantedBelow(fs vfs.FS, member, dir string, values [][]byte) {
	names, err := fs.List(dir)
	if err != nil {
		return // it has gone meanwhile
	}
	for _, name := range names {
		path := fs.PathJoin(dir, name)
		if info, err := fs.Stat(path); err != nil {
			continue
		} else if info.IsDir() {
			o.plantedBelow(fs, member, path, values)
			continue
		}
		f, err := fs.Open(path)
		if err != nil {
			continue
		}
		content, err := io.ReadAll(f)
		if cerr := f.Close(); err != nil || cerr != nil {
			continue
		}
		for _, value := range values {
			if bytes.Contains(content, value) {
				o.w.history.fail("%s: %s has %q, which must not be kept", member, path, value)
			}
		}
	}
}
