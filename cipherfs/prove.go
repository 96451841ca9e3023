package cipherfs

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"maps"
	"slices"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// proof is the content of the file encryption: one line of JSON, and one of its checksum.
type proof struct {
	Format int
	Keys   []proofKey
}

type proofKey struct {
	ID    string // 32 hexadecimal digits
	Salt  []byte // 16 bytes
	Check []byte // a text that is sealed with the key
}

const (
	checkText = "deckle"
	checkSalt = 16
	maxProof  = 1 << 20
)

func (k *Key) prove() (proofKey, error) {
	e := proofKey{ID: k.id.String(), Salt: make([]byte, checkSalt)}
	_, _ = rand.Read(e.Salt) // it ends the process rather than fail
	aead, err := k.derive(e.Salt, labelCheck)
	if err != nil {
		return e, err
	}
	e.Check = aead.Seal(nil, make([]byte, aead.NonceSize()), []byte(checkText), []byte(e.ID))
	return e, nil
}

// opens tells whether e was made with this key.
func (k *Key) opens(e proofKey) (bool, error) {
	aead, err := k.derive(e.Salt, labelCheck)
	if err != nil {
		return false, err
	}
	text, err := aead.Open(nil, make([]byte, aead.NonceSize()), e.Check, []byte(e.ID))
	return err == nil && string(text) == checkText && e.ID == k.id.String(), nil
}

func encodeProof(p *proof) ([]byte, error) {
	b, err := json.Marshal(p)
	if err != nil {
		return nil, fmt.Errorf("cipherfs: %w", err)
	}
	b = append(b, '\n')
	return fmt.Appendf(b, "%08x\n", crc32.Checksum(b, castagnoli)), nil
}

// decodeProof returns errProofBroken, wrapped, for what is none, and ErrVersion for one of a newer program.
func decodeProof(b []byte) (*proof, error) {
	i := bytes.IndexByte(b, '\n')
	if i < 0 || string(b[i+1:]) != fmt.Sprintf("%08x\n", crc32.Checksum(b[:i+1], castagnoli)) {
		return nil, errProofBroken
	}
	var p proof
	if err := json.Unmarshal(b[:i], &p); err != nil {
		return nil, fmt.Errorf("%w: %w", errProofBroken, err)
	}
	switch {
	case p.Format > proofVersion:
		return nil, fmt.Errorf("%w %d of the file %s, this program knows %d", ErrVersion, p.Format, ProofName,
			proofVersion)
	case p.Format != proofVersion:
		return nil, errProofBroken
	}
	for _, k := range p.Keys {
		if _, err := parseID(k.ID); err != nil || len(k.Salt) != checkSalt {
			return nil, errProofBroken
		}
	}
	return &p, nil
}

func parseID(text string) (id KeyID, err error) {
	b, err := hex.DecodeString(text)
	if err != nil || len(b) != idBytes || hex.EncodeToString(b) != text {
		return id, errProofBroken
	}
	copy(id[:], b)
	return id, nil
}

// Folder is a data folder whose keys are proven.
type Folder struct {
	o    Options
	dir  string
	old  *proof  // what the file encryption says; nil if it is missing or broken
	want proof   // what it has to say
	scan *census // what the headers say
}

// Prove finds out what the files below dir are sealed with, and whether o.Keys, which may be none, fit. It reads the
// file encryption and the beginning of every file, except those below outside, and writes nothing. A key that is wrong
// or missing is ErrKey; with keys a plain file is ErrPlainFile, unless o.Plain or o.NewPlain accepts those.
//
// Whether plain files are accepted is said by the configuration alone. Whoever can write to the disk could change any
// note in the folder, and would then have files of his own making read.
func Prove(o Options, dir string, outside ...string) (*Folder, error) {
	f := &Folder{o: o, dir: dir}
	var err error
	path := o.FS.PathJoin(dir, ProofName)
	f.old, err = readProof(o.FS, path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, errProofBroken) {
		return nil, err
	}
	if f.scan, err = take(o.FS, dir, outside); err != nil {
		return nil, err
	}
	needed := f.scan.needed()
	given := map[KeyID]*Key{}
	for _, k := range o.Keys {
		given[k.id] = k
	}
	refused := &KeyError{Needed: needed, Given: slices.Collect(maps.Keys(given))}
	for id := range needed {
		if given[id] == nil {
			return nil, refused
		}
	}
	f.want.Format = proofVersion
	if f.old != nil {
		for _, e := range f.old.Keys {
			id, _ := parseID(e.ID) // decodeProof has parsed it
			if given[id] == nil {
				continue // no file has it any more: it is forgotten
			}
			if ok, err := given[id].opens(e); err != nil {
				return nil, err
			} else if !ok {
				refused.Check = path
				return nil, refused
			}
			f.want.Keys = append(f.want.Keys, e)
		}
	}
	if n := len(f.scan.plain); n > 0 && len(o.Keys) > 0 && !o.plain() {
		return nil, fmt.Errorf("%w: %s, and %d in all. Nothing was changed. If the folder was in use before it had "+
			"keys: encryption.plain_files: accept, or deckle encryption rewrite --accept-plain. If not, somebody has "+
			"put them there: take them away", ErrPlainFile, f.scan.plain[0], n)
	}
	return f, nil
}

// layered tells whether the folder's files go through a layer.
func (f *Folder) layered() bool {
	return len(f.o.Keys) > 0 && (!f.o.NewPlain || len(f.scan.sealed) > 0)
}

// Begin writes the proof, seals the identity, removes what an interrupted Rewrite has left, and returns the file system
// to use for the folder: layer, or, without keys, the one that was given, and layer is nil. It holds o.Lock meanwhile.
func (f *Folder) Begin() (fsys vfs.FS, layer *FS, err error) {
	if !f.layered() && len(f.scan.leftover) == 0 {
		return f.o.FS, nil, nil
	}
	lock, err := f.lock()
	if err != nil {
		return nil, nil, err
	}
	fsys, layer, err = f.begin()
	if err == nil && layer != nil {
		err = f.sealIdentity(layer)
	}
	return fsys, layer, errors.Join(err, lock.Close())
}

type noLock struct{}

func (noLock) Close() error { return nil }

// lock keeps everybody else out of a folder that has been used. In a new one there is nothing to be kept from.
func (f *Folder) lock() (io.Closer, error) {
	if f.o.Lock == "" {
		return noLock{}, nil
	}
	if _, err := f.o.FS.Stat(f.o.FS.PathDir(f.o.Lock)); errors.Is(err, fs.ErrNotExist) {
		return noLock{}, nil
	}
	lock, err := f.o.FS.Lock(f.o.Lock)
	if err != nil {
		return nil, fmt.Errorf("cipherfs: lock %s (does another process use this folder?): %w", f.dir, err)
	}
	return lock, nil
}

func (f *Folder) begin() (fsys vfs.FS, layer *FS, err error) {
	for _, path := range f.scan.leftover {
		if err := f.o.FS.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, nil, fmt.Errorf("cipherfs: %w", err)
		}
	}
	if !f.layered() {
		return f.o.FS, nil, nil
	}
	ids := append(slices.Collect(maps.Keys(f.scan.sealed)), f.o.Keys[0].id)
	for _, k := range f.o.Keys {
		has := slices.ContainsFunc(f.want.Keys, func(e proofKey) bool { return e.ID == k.id.String() })
		if has || !slices.Contains(ids, k.id) {
			continue
		}
		e, err := k.prove()
		if err != nil {
			return nil, nil, err
		}
		f.want.Keys = append(f.want.Keys, e)
	}
	if err := f.save(); err != nil {
		return nil, nil, err
	}
	if layer, err = New(f.o); err != nil {
		return nil, nil, err
	}
	return layer, layer, nil
}

// sealIdentity comes before any other file is sealed. A binary that knows no encryption reads the identity first, and
// refuses a sealed one. Had it an identity that it can read, and a log that it cannot, it would take the log for
// damaged and empty the folder.
func (f *Folder) sealIdentity(layer *FS) error {
	identity := f.o.FS.PathJoin(f.dir, identityName)
	if !slices.Contains(f.scan.plain, identity) {
		return nil
	}
	return layer.rewrite(identity, false)
}

// save writes the proof if it is not there already.
func (f *Folder) save() error {
	b, err := encodeProof(&f.want)
	if err != nil {
		return err
	}
	if f.old != nil {
		if was, err := encodeProof(f.old); err != nil || bytes.Equal(was, b) {
			return err
		}
	}
	fsys := f.o.FS
	if err := makeDir(fsys, f.dir); err != nil {
		return err
	}
	path := fsys.PathJoin(f.dir, ProofName)
	if err := writeFile(fsys, path+temporarySuffix, b); err != nil {
		return err
	}
	if err := fsys.Rename(path+temporarySuffix, path); err != nil {
		return fmt.Errorf("cipherfs: %w", err)
	}
	f.old = &proof{f.want.Format, slices.Clone(f.want.Keys)}
	return syncDir(fsys, f.dir)
}

func readProof(fsys vfs.FS, path string) (*proof, error) {
	f, err := fsys.Open(path)
	if err != nil {
		return nil, fmt.Errorf("cipherfs: %w", err)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxProof))
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("cipherfs: %s: %w", path, err)
	}
	return decodeProof(b)
}

func writeFile(fsys vfs.FS, path string, b []byte) error {
	f, err := fsys.Create(path, category)
	if err != nil {
		return fmt.Errorf("cipherfs: %w", err)
	}
	if _, err = f.Write(b); err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("cipherfs: write %s: %w", path, err)
	}
	return nil
}

// makeDir creates a folder and makes its name durable.
func makeDir(fsys vfs.FS, dir string) error {
	if _, err := fsys.Stat(dir); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	parent := fsys.PathDir(dir)
	if parent != dir {
		if err := makeDir(fsys, parent); err != nil {
			return err
		}
	}
	if err := fsys.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("cipherfs: %w", err)
	}
	return syncDir(fsys, parent)
}

func syncDir(fsys vfs.FS, dir string) error {
	if dir == "" {
		dir = "."
	}
	d, err := fsys.OpenDir(dir)
	if err == nil {
		err = errors.Join(d.Sync(), d.Close())
	}
	if err != nil {
		return fmt.Errorf("cipherfs: sync folder: %w", err)
	}
	return nil
}
