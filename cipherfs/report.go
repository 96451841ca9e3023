package cipherfs

import (
	"errors"
	"io/fs"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Count is a number of files, and the bytes that they take on disk.
type Count struct {
	Files int   `json:"files"`
	Bytes int64 `json:"bytes"`
}

// Report says what the files of a folder are sealed with. Empty files, locks for example, are in none of the counts.
type Report struct {
	Sealed map[KeyID]Count // by key; also those that only the file encryption names, with zeros
	Plain  Count           // files of a format that a node writes, not sealed
	Other  Count           // files of which neither can be told: another's, or what a crash has left of a new file
}

// Look reports on the files below dir, those below outside aside. It needs no key, changes nothing, and may be called
// while a node uses the folder.
func Look(fsys vfs.FS, dir string, outside ...string) (*Report, error) {
	c, err := take(fsys, dir, outside)
	if err != nil {
		return nil, err
	}
	r := &Report{Sealed: map[KeyID]Count{}, Plain: c.total(c.plain), Other: c.total(c.unknown, c.broken)}
	switch p, err := readProof(fsys, fsys.PathJoin(dir, ProofName)); {
	case err == nil:
		for _, e := range p.Keys {
			id, _ := parseID(e.ID) // decodeProof has parsed it
			r.Sealed[id] = Count{}
		}
	case !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, errProofBroken):
		return nil, err
	}
	for id, paths := range c.sealed {
		r.Sealed[id] = c.total(paths)
	}
	return r, nil
}

func (c *census) total(lists ...[]string) (n Count) {
	for _, paths := range lists {
		n.Files += len(paths)
		for _, path := range paths {
			n.Bytes += c.size[path]
		}
	}
	return n
}
