package trust

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	// LookEvery is how often Run looks at the files.
	LookEvery = 10 * time.Second
	// UnusableAfter is how long a file may be unusable before somebody is told: a rotation writes two files one after
	// the other.
	UnusableAfter = time.Minute
)

// Files are the files of one process. Its methods are safe for concurrent use.
type Files struct {
	read func(string) ([]byte, error)
	now  func() time.Time
	log  *slog.Logger

	looking   sync.Mutex           // one at a time reads
	materials map[string]*Material // by key; guarded by looking
	texts     map[string]*Text     // the same

	mu      sync.Mutex
	list    []*watched
	changed []func()
}

// watched is a file, or a pair of files that are used together.
type watched struct {
	key   string
	paths []string
	// take parses the contents and, if they are good, puts them in use. It is called by one goroutine at a time.
	take   func(contents [][]byte) (*expiry, error)
	closes func() // tells that there is nothing any more; nil where the former content stays in use

	// What follows is guarded by Files.mu.
	sum     [sha256.Size]byte // of the contents in use
	since   time.Time         // when they were taken
	expiry  *expiry           // nil if they have no certificate
	err     error             // why the present contents are not used
	bad     time.Time         // since when
	closed  bool
	used    int // contents that came into use after the first
	refused int // contents that could not be used
}

// NewFiles returns an empty list. read is os.ReadFile outside tests, now a clock with a monotonic reading.
func NewFiles(read func(string) ([]byte, error), now func() time.Time, log *slog.Logger) *Files {
	return &Files{read: read, now: now, log: log, materials: map[string]*Material{}, texts: map[string]*Text{}}
}

// Run looks at every file each LookEvery, until ctx ends.
func (f *Files) Run(ctx context.Context) {
	t := time.NewTicker(LookEvery)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			f.Look()
		case <-ctx.Done():
			return
		}
	}
}

// Look looks at every file now, and takes what has changed and can be used.
func (f *Files) Look() {
	f.looking.Lock()
	defer f.looking.Unlock()
	f.mu.Lock()
	list := slices.Clone(f.list)
	f.mu.Unlock()
	for _, w := range list {
		f.look(w)
	}
}

func (f *Files) look(w *watched) {
	contents, sum, err := f.contents(w.paths)
	if err == nil {
		f.mu.Lock()
		same := sum == w.sum && !w.closed
		if same && w.err != nil {
			w.err = nil
			f.log.Info("a file is again as it is in use", "key", w.key, "path", w.path())
		}
		f.mu.Unlock()
		if same {
			return
		}
		var e *expiry
		if e, err = w.take(contents); err == nil {
			f.mu.Lock()
			w.sum, w.since, w.expiry, w.err, w.closed = sum, f.now(), e, nil, false
			w.used++
			tell := slices.Clone(f.changed)
			f.mu.Unlock()
			f.log.Info("a changed file is in use", "key", w.key, "path", w.path())
			for _, told := range tell {
				told()
			}
			return
		}
	}
	f.mu.Lock()
	if w.err == nil {
		w.bad = f.now()
	}
	if w.err == nil || w.err.Error() != err.Error() {
		w.refused++
		f.log.Info("a file cannot be used; what was in use stays", "key", w.key, "path", w.path(), "error", err)
	}
	w.err = err
	closes := w.closes != nil && !w.closed && f.now().Sub(w.bad) >= UnusableAfter
	w.closed = w.closed || closes
	f.mu.Unlock()
	if closes {
		f.log.Warn("a file has been unusable for too long; nothing of it counts any more", "key", w.key, "path",
			w.path(), "error", err)
		w.closes()
	}
}

// Changed has told called after another content of any file has come into use. It must not wait, nor ask f for a file.
func (f *Files) Changed(told func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.changed = append(f.changed, told)
}

func (w *watched) path() string { return strings.Join(w.paths, ", ") }

// contents reads files, and returns their sum besides.
func (f *Files) contents(paths []string) (contents [][]byte, sum [sha256.Size]byte, err error) {
	h := sha256.New()
	for _, p := range paths {
		b, err := f.read(p)
		if err != nil {
			return nil, sum, err
		}
		own := sha256.Sum256(b)
		h.Write(own[:])
		text, err := withoutMark(b)
		if err != nil {
			return nil, sum, fmt.Errorf("%s: %w", p, err)
		}
		contents = append(contents, text)
	}
	return contents, [sha256.Size]byte(h.Sum(nil)), nil
}

// add reads files for the first time and begins to watch them, all or none. Errors name key and path.
func (f *Files) add(list ...*watched) error {
	f.looking.Lock()
	defer f.looking.Unlock()
	return f.addLocked(list...)
}

// addLocked is add for who holds looking.
func (f *Files) addLocked(list ...*watched) error {
	for _, w := range list {
		contents, sum, err := f.contents(w.paths)
		if err == nil {
			w.expiry, err = w.take(contents)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", w.key, err)
		}
		w.sum, w.since = sum, f.now()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, w := range list {
		if slices.ContainsFunc(f.list, func(has *watched) bool { return has.key == w.key }) {
			return fmt.Errorf("%s: is read already", w.key)
		}
	}
	f.list = append(f.list, list...)
	return nil
}

// Bytes reads the file at path and gives its content to parse, now and whenever it has changed. parse puts it in use,
// or returns why it cannot be used, and then changes nothing; it must not keep the slice. key is the configuration key
// that names the file. An error here is that of the first time.
func (f *Files) Bytes(key, path string, parse func([]byte) error) error {
	return f.add(&watched{key: key, paths: []string{path}, take: bytesOf(path, parse)})
}

// Closing is Bytes for a file whose absence means something: once it has been missing or wrong for UnusableAfter, none
// is called, once, and what it had must not count any more.
func (f *Files) Closing(key, path string, parse func([]byte) error, none func()) error {
	return f.add(&watched{key: key, paths: []string{path}, take: bytesOf(path, parse), closes: none})
}

func bytesOf(path string, parse func([]byte) error) func([][]byte) (*expiry, error) {
	return func(contents [][]byte) (*expiry, error) {
		if err := parse(contents[0]); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		return nil, nil
	}
}

// FileState is what can be said of a file, or of a certificate with its key.
type FileState struct {
	Key      string   // of the configuration
	Paths    []string // one, or certificate and key
	Since    time.Time
	NotAfter time.Time // when what is in use of it expires; zero if it is no certificate
	// Err is why the present content is not used; nil if it is. Unusable says that this has lasted for UnusableAfter.
	Err      error
	Unusable bool
}

// State returns all files, in the order in which they were first read.
func (f *Files) State() []FileState {
	now := f.now()
	f.mu.Lock()
	defer f.mu.Unlock()
	out := make([]FileState, 0, len(f.list))
	for _, w := range f.list {
		out = append(out, FileState{Key: w.key, Paths: slices.Clone(w.paths), Since: w.since,
			NotAfter: w.expiry.at(now), Err: w.err, Unusable: w.err != nil && now.Sub(w.bad) >= UnusableAfter})
	}
	return out
}

// withoutMark takes the byte-order mark of UTF-8 away, which some editors write and nobody sees.
func withoutMark(text []byte) ([]byte, error) {
	switch {
	case bytes.HasPrefix(text, []byte("\xef\xbb\xbf")):
		return text[3:], nil
	case bytes.HasPrefix(text, []byte("\xff\xfe")), bytes.HasPrefix(text, []byte("\xfe\xff")):
		return nil, errors.New("the file is UTF-16 or UTF-32; save it as UTF-8")
	}
	return text, nil
}
