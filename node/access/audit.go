package access

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// Line is one line of the audit log.
type Line struct {
	Time    time.Time      `json:"time"` // UTC, milliseconds
	Node    string         `json:"node"`
	Request string         `json:"request"` // the id that the answer and the log have, too
	Who     string         `json:"who"`     // Principal.Who
	Name    string         `json:"name"`
	Role    string         `json:"role"`
	From    string         `json:"from"` // the client's address
	Via     string         `json:"via"`  // the proxy's, "" if there is none
	Verb    string         `json:"verb"` // what was asked for: session.read, partitions.skip, …
	Target  string         `json:"target"`
	Args    map[string]any `json:"args"`
	Status  int            `json:"status"` // of the answer; 0 before there is one
	Result  string         `json:"result"` // begun, ok, refused, failed, denied, or unknown
	Detail  string         `json:"detail"`
}

// AuditOptions say where the lines go.
type AuditOptions struct {
	File     string // its folder is made, too
	Node     string
	MaxBytes int64 // a file that has as many is put aside
	Keep     int   // files that were put aside and are kept
	Now      func() time.Time
	Metrics  *Metrics
}

// refusalsPerSecond is how many refusals have a line of their own.
const refusalsPerSecond = 10

// Audit is the log of who did what. Its methods are safe for concurrent use.
type Audit struct {
	opts AuditOptions

	mu      sync.Mutex
	file    *os.File
	size    int64
	failing error // of the last line

	second  int64 // of refusals
	refused int   // in that second
	left    int   // without a line since
}

// OpenAudit opens the log, which goes on where it was.
func OpenAudit(o AuditOptions) (*Audit, error) {
	a := &Audit{opts: o}
	if err := os.MkdirAll(filepath.Dir(o.File), 0o700); err != nil {
		return nil, fmt.Errorf("audit: %w", err)
	}
	if err := a.open(); err != nil {
		return nil, fmt.Errorf("audit: %w", err)
	}
	return a, nil
}

func (a *Audit) open() error {
	f, err := os.OpenFile(a.opts.File, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		return errors.Join(err, f.Close())
	}
	a.file, a.size = f, info.Size()
	if a.size == 0 {
		return nil
	}
	// A crash may have left half a line: what follows must not be joined to it.
	var last [1]byte
	r, err := os.Open(a.opts.File)
	if err == nil {
		_, err = r.ReadAt(last[:], a.size-1)
		err = errors.Join(err, r.Close())
	}
	if err == nil && last[0] != '\n' {
		var n int
		n, err = f.Write([]byte("\n"))
		a.size += int64(n)
	}
	return err
}

// Write writes a line, and has it on disk when it returns if sync is set. After an error the line may be there in part,
// never so that it spoils the next one.
func (a *Audit) Write(l Line, sync bool) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.write(&l, sync)
}

func (a *Audit) write(l *Line, sync bool) (err error) {
	defer func() {
		a.failing = err
		if err != nil {
			a.opts.Metrics.line("failed")
		} else {
			a.opts.Metrics.line("written")
		}
	}()
	l.Time, l.Node = a.opts.Now().UTC().Truncate(time.Millisecond), a.opts.Node
	if l.Args == nil {
		l.Args = map[string]any{}
	}
	text, err := json.Marshal(l)
	if err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	text = append(text, '\n')
	if a.size > 0 && a.size+int64(len(text)) > a.opts.MaxBytes {
		if err := a.rotate(); err != nil {
			return fmt.Errorf("audit: %w", err)
		}
	}
	if a.file == nil { // could not be opened last time
		if err := a.open(); err != nil {
			return fmt.Errorf("audit: %w", err)
		}
	}
	n, err := a.file.Write(text)
	if err == nil && sync {
		err = a.file.Sync()
	}
	if err != nil {
		// What is there of the line is taken away, or ended when the file is opened again.
		if n > 0 && n < len(text) && a.file.Truncate(a.size) == nil {
			n = 0
		}
		a.size += int64(n)
		_ = a.file.Close()
		a.file = nil
		return fmt.Errorf("audit: %w", err)
	}
	a.size += int64(n)
	return nil
}

// rotate puts the file aside, under a name with the time, and takes away the oldest that are too many.
func (a *Audit) rotate() error {
	if a.file != nil {
		err := errors.Join(a.file.Sync(), a.file.Close())
		a.file = nil
		if err != nil {
			return err
		}
	}
	ext := filepath.Ext(a.opts.File)
	stem := strings.TrimSuffix(a.opts.File, ext)
	aside := fmt.Sprintf("%s-%s%s", stem, a.opts.Now().UTC().Format(asideTime), ext)
	if err := os.Rename(a.opts.File, aside); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	entries, err := os.ReadDir(filepath.Dir(a.opts.File)) // in the order of their names, and so of their times
	if err != nil {
		return err
	}
	var old []string
	for _, e := range entries {
		name, ok := strings.CutPrefix(e.Name(), filepath.Base(stem)+"-")
		name, ok2 := strings.CutSuffix(name, ext)
		if _, err := time.Parse(asideTime, name); ok && ok2 && err == nil {
			old = append(old, filepath.Join(filepath.Dir(stem), e.Name()))
		}
	}
	for len(old) > a.opts.Keep {
		if err := os.Remove(old[0]); err != nil {
			return err
		}
		old = old[1:]
	}
	return a.open()
}

// asideTime is how the time stands in the name of a file that was put aside.
const asideTime = "20060102T150405.000000000"

// Refused writes a line about a request that was not let in: up to ten per second; how many more there were is in the
// next line. It reports no error: nothing depends on it.
func (a *Audit) Refused(l Line) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if now := a.opts.Now().Unix(); now != a.second {
		a.second, a.refused = now, 0
	}
	if a.refused >= refusalsPerSecond {
		a.left++
		a.opts.Metrics.line("left_out")
		return
	}
	a.refused++
	if a.left > 0 {
		l.Args = map[string]any{"refusals_without_a_line": a.left}
	}
	if a.write(&l, false) == nil {
		a.left = 0
	}
}

// Failing returns why the last line could not be written, nil if it was.
func (a *Audit) Failing() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.failing
}

// Close ends the log.
func (a *Audit) Close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.file == nil {
		return nil
	}
	err := errors.Join(a.file.Sync(), a.file.Close())
	a.file = nil
	return err
}
