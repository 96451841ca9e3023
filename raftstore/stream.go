package raftstore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"path"
	"slices"

	"github.com/cockroachdb/pebble/v2/vfs"

	"deckle/schema/level"
)

// A snapshot on the wire; integers are big-endian, checksums CRC32C:
//
//	"DKSN" | version u8 | applied u64 | term u64 | files u32 | level u32 | crc u32 of what precedes
//	per file: name length u16 | name | size u64 | bytes | crc u32 of name, size and bytes
//	"DKSE"
//
// Names are relative, slash-separated and clean. The length of the whole follows from names and sizes, so it is known
// before the first byte is sent, as Raft needs it. The level is that of the group. Version 1, which a group of level 1
// sends, does not have it. Whoever reads only lower levels ends the stream after the head.

type streamFile struct {
	name string
	size int64
}

// manifest lists what a snapshot folder holds.
type manifest struct {
	applied, term uint64      // index and term up to which the state machine has applied
	level         level.Level // of the group; 0 counts as level.First
	files         []streamFile
}

// version is that of the stream.
func (m *manifest) version() byte { return level.Stream.At(max(m.level, level.First)) }

// scan lists dir's files, in folders too, sorted by name.
func (m *manifest) scan(fsys vfs.FS, dir, prefix string) error {
	names, err := fsys.List(dir)
	if err != nil {
		return fmt.Errorf("raftstore: list snapshot: %w", err)
	}
	slices.Sort(names)
	for _, n := range names {
		p := fsys.PathJoin(dir, n)
		st, err := fsys.Stat(p)
		if err != nil {
			return fmt.Errorf("raftstore: stat snapshot file: %w", err)
		}
		if st.IsDir() {
			if err := m.scan(fsys, p, prefix+n+"/"); err != nil {
				return err
			}
			continue
		}
		m.files = append(m.files, streamFile{prefix + n, st.Size()})
	}
	return nil
}

// size is the exact length of the stream in bytes.
func (m *manifest) size() int64 {
	n := int64(streamHead + 4)
	if m.version() >= streamLeveled {
		n += streamLevel
	}
	for _, f := range m.files {
		n += 2 + int64(len(f.name)) + 8 + f.size + 4
	}
	return n
}

// head returns the first bytes of the stream.
func (m *manifest) head() []byte {
	head := append(make([]byte, 0, streamHead+streamLevel), streamMagic...)
	head = append(head, m.version())
	head = binary.BigEndian.AppendUint64(head, m.applied)
	head = binary.BigEndian.AppendUint64(head, m.term)
	head = binary.BigEndian.AppendUint32(head, uint32(len(m.files)))
	if m.version() >= streamLeveled {
		head = binary.BigEndian.AppendUint32(head, uint32(m.level))
	}
	return binary.BigEndian.AppendUint32(head, crc32.Checksum(head, castagnoli))
}

// readHead reads the head of a stream, and how many files follow. The error wraps ErrTooNew if the stream can be read
// only above the given level, and ErrStream if it is none.
func readHead(r io.Reader, own level.Level) (m *manifest, files uint32, err error) {
	head := make([]byte, streamHead, streamHead+streamLevel)
	if _, err := io.ReadFull(r, head); err != nil {
		return nil, 0, fmt.Errorf("%w: head: %w", ErrStream, err)
	}
	if string(head[:4]) != streamMagic {
		return nil, 0, fmt.Errorf("%w: head", ErrStream)
	}
	if err := checkStreamVersion(head[4]); err != nil {
		return nil, 0, err
	}
	m = &manifest{level: level.First}
	if head[4] >= streamLeveled {
		head = head[:streamHead+streamLevel]
		if _, err := io.ReadFull(r, head[streamHead:]); err != nil {
			return nil, 0, fmt.Errorf("%w: head: %w", ErrStream, err)
		}
		m.level = level.Level(binary.BigEndian.Uint32(head[streamHead-4:]))
	}
	body := head[:len(head)-4]
	if crc32.Checksum(body, castagnoli) != binary.BigEndian.Uint32(head[len(body):]) {
		return nil, 0, fmt.Errorf("%w: head", ErrStream)
	}
	if m.level > own {
		return nil, 0, fmt.Errorf("%w: the snapshot has level %d, this node reads up to level %d",
			ErrTooNew, m.level, own)
	}
	if m.level < level.First || m.version() != head[4] {
		return nil, 0, fmt.Errorf("%w: version %d at level %d", ErrStream, head[4], m.level)
	}
	m.applied, m.term = binary.BigEndian.Uint64(head[5:]), binary.BigEndian.Uint64(head[13:])
	if files = binary.BigEndian.Uint32(head[21:]); files > maxFiles {
		return nil, 0, fmt.Errorf("%w: %d files", ErrStream, files)
	}
	return m, files, nil
}

// write streams the files of dir.
func (m *manifest) write(w io.Writer, fsys vfs.FS, dir string) error {
	if _, err := w.Write(m.head()); err != nil {
		return err
	}
	for _, f := range m.files {
		if err := writeStreamFile(w, fsys, fsys.PathJoin(dir, f.name), f); err != nil {
			return err
		}
	}
	_, err := io.WriteString(w, streamEnd)
	return err
}

func writeStreamFile(w io.Writer, fsys vfs.FS, p string, f streamFile) error {
	sum := crc32.New(castagnoli)
	head := binary.BigEndian.AppendUint16(nil, uint16(len(f.name)))
	head = append(head, f.name...)
	head = binary.BigEndian.AppendUint64(head, uint64(f.size))
	sum.Write(head[2:])
	if _, err := w.Write(head); err != nil {
		return err
	}
	in, err := fsys.Open(p)
	if err != nil {
		return fmt.Errorf("raftstore: open snapshot file: %w", err)
	}
	_, err = io.CopyN(io.MultiWriter(w, sum), in, f.size)
	if err = errors.Join(err, in.Close()); err != nil {
		return fmt.Errorf("raftstore: send %s: %w", f.name, err)
	}
	_, err = w.Write(binary.BigEndian.AppendUint32(nil, sum.Sum32()))
	return err
}

// readStream writes the files of a stream, whose level is at most the given one, into dir, which it creates, durably.
// It is an error if anything follows the stream.
func readStream(r io.Reader, own level.Level, fsys vfs.FS, dir string) (*manifest, error) {
	m, n, err := readHead(r, own)
	if err != nil {
		return nil, err
	}
	if err := fsys.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("raftstore: create %s: %w", dir, err)
	}
	dirs := map[string]bool{dir: true}
	seen := map[string]bool{}
	for i := range n {
		f, err := readStreamFile(r, fsys, dir, dirs, seen)
		if err != nil {
			return nil, fmt.Errorf("raftstore: snapshot file %d: %w", i, err)
		}
		m.files = append(m.files, f)
	}
	var tail [5]byte
	if k, err := io.ReadFull(r, tail[:]); err != io.ErrUnexpectedEOF || k != 4 || string(tail[:4]) != streamEnd {
		return nil, fmt.Errorf("%w: tail", ErrStream)
	}
	for d := range dirs {
		if err := syncDir(fsys, d); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func readStreamFile(r io.Reader, fsys vfs.FS, dir string, dirs, seen map[string]bool) (f streamFile, err error) {
	var b [8]byte
	if _, err := io.ReadFull(r, b[:2]); err != nil {
		return f, fmt.Errorf("%w: %w", ErrStream, err)
	}
	name := make([]byte, binary.BigEndian.Uint16(b[:2]))
	if len(name) > maxFileName {
		return f, fmt.Errorf("%w: name of %d bytes", ErrStream, len(name))
	}
	sum := crc32.New(castagnoli)
	in := io.TeeReader(r, sum)
	if _, err := io.ReadFull(in, name); err != nil {
		return f, fmt.Errorf("%w: %w", ErrStream, err)
	}
	if _, err := io.ReadFull(in, b[:8]); err != nil {
		return f, fmt.Errorf("%w: %w", ErrStream, err)
	}
	f = streamFile{string(name), int64(binary.BigEndian.Uint64(b[:8]))}
	if f.size < 0 || !cleanName(f.name) || seen[f.name] {
		return f, fmt.Errorf("%w: file %q of %d bytes", ErrStream, f.name, f.size)
	}
	seen[f.name] = true
	if sub := path.Dir(f.name); sub != "." {
		p := fsys.PathJoin(dir, sub)
		if err := fsys.MkdirAll(p, 0o700); err != nil {
			return f, fmt.Errorf("raftstore: create %s: %w", p, err)
		}
		for ; sub != "."; sub = path.Dir(sub) {
			dirs[fsys.PathJoin(dir, sub)] = true
		}
	}
	out, err := fsys.Create(fsys.PathJoin(dir, f.name), vfs.WriteCategoryUnspecified)
	if err != nil {
		return f, fmt.Errorf("raftstore: create snapshot file: %w", err)
	}
	_, err = io.CopyN(out, in, f.size)
	if err != nil {
		err = fmt.Errorf("%w: %w", ErrStream, err)
	} else {
		err = out.Sync()
	}
	if err = errors.Join(err, out.Close()); err != nil {
		return f, err
	}
	return f, checkSum(r, sum, f.name)
}

func checkSum(r io.Reader, sum hash.Hash32, name string) error {
	want := sum.Sum32()
	var b [4]byte
	if _, err := io.ReadFull(r, b[:]); err != nil || binary.BigEndian.Uint32(b[:]) != want {
		return fmt.Errorf("%w: checksum of %q", ErrStream, name)
	}
	return nil
}

// cleanName tells whether a name stays inside its folder.
func cleanName(n string) bool {
	return n != "" && n == path.Clean(n) && n[0] != '/' && n != ".." && n != "." && (len(n) < 3 || n[:3] != "../") &&
		!slices.ContainsFunc([]byte(n), func(c byte) bool { return c == 0 || c == '\\' || c == ':' })
}
