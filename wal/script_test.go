package wal

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/hashicorp/raft"
)

// script is one log that a text script drives. The commands and their arguments:
//
//	open [segment-bytes=N]    opens the log, prints what it shows
//	close | crash             crash keeps what was synced; crash keep-unsynced keeps all
//	store g=N i=A[..B] t=T    StoreLogs     [bytes=N] of data each; [unsynced]: written, but its fsync fails
//	delete g=N min=A max=B    DeleteRange
//	set g=N key=K (val=V | n=N)
//	drop g=N | get g=N key=K | state | segments
//	flip seg=N rec=M          flips a bit in the M-th record of a segment, of a closed log; negative from the end
type script struct {
	fs   *vfs.MemFS
	l    *Log
	fail bool
}

func (s *script) inject(o errorfs.Op) error {
	if s.fail && o.Kind == errorfs.OpFileSyncData {
		return errorfs.ErrInjected
	}
	return nil
}

func TestScripts(t *testing.T) {
	datadriven.Walk(t, "testdata/scripts", func(t *testing.T, path string) {
		s := &script{fs: vfs.NewCrashableMem()}
		datadriven.RunTest(t, path, s.run)
		if s.l != nil {
			check(t, s.l.Close())
		}
	})
}

func (s *script) run(t *testing.T, d *datadriven.TestData) string {
	var g, i, to, term, n, min, max, seg uint64
	var rec, bytes int
	var key, val string
	for _, a := range []struct {
		name string
		dst  any
	}{
		{"g", &g}, {"t", &term}, {"n", &n}, {"min", &min}, {"max", &max}, {"seg", &seg}, {"rec", &rec},
		{"bytes", &bytes}, {"key", &key}, {"val", &val},
	} {
		d.MaybeScanArgs(t, a.name, a.dst)
	}
	if arg, ok := d.Arg("i"); ok {
		if c, _ := fmt.Sscanf(arg.Vals[0], "%d..%d", &i, &to); c < 2 {
			to = i
		}
	}
	var err error
	switch d.Cmd {
	case "open":
		segmentBytes := int64(1 << 20)
		d.MaybeScanArgs(t, "segment-bytes", &segmentBytes)
		s.fail = false
		fs := errorfs.Wrap(s.fs, errorfs.InjectorFunc(s.inject))
		s.l, err = Open(context.Background(), options(fs, func(o *Options) { o.SegmentBytes = segmentBytes }))
		if err == nil {
			return s.state()
		}
	case "close":
		err, s.l = s.l.Close(), nil
	case "crash":
		cfg := vfs.CrashCloneCfg{}
		if d.HasArg("keep-unsynced") {
			cfg = vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: newRand(1, 1)}
		}
		after := s.fs.CrashClone(cfg)
		_ = s.l.Close() // the log from before the crash
		s.fs, s.l = after, nil
	case "store":
		var logs []*raft.Log
		for ; i <= to; i++ {
			logs = append(logs, entry(i, term, strings.Repeat("x", bytes)))
		}
		s.fail = d.HasArg("unsynced")
		err = s.l.Group(g).StoreLogs(logs)
	case "delete":
		err = s.l.Group(g).DeleteRange(min, max)
	case "set":
		if d.HasArg("n") {
			err = s.l.Group(g).SetUint64([]byte(key), n)
		} else {
			err = s.l.Group(g).Set([]byte(key), []byte(val))
		}
	case "get":
		var v []byte
		if v, err = s.l.Group(g).Get([]byte(key)); err == nil {
			return fmt.Sprintf("%q\n", v)
		}
	case "drop":
		err = s.l.DropGroup(g)
	case "state":
		return s.state()
	case "segments":
		return s.segments(t)
	case "flip":
		x := &damaged{fs: s.fs, segs: segments(t, s.fs), offs: map[uint64][]int64{}}
		x.offs[seg] = frames(seg, x.segs[seg])
		x.flip(t, seg, x.rec(seg, rec)+recordHeader)
	default:
		d.Fatalf(t, "unknown command %s", d.Cmd)
	}
	if err != nil {
		return err.Error() + "\n"
	}
	return ""
}

// state prints the groups, with runs of equal terms.
func (s *script) state() string {
	var b strings.Builder
	for _, id := range s.l.table.known() {
		g := s.l.Group(id)
		fmt.Fprintf(&b, "group %d:", id)
		first, _ := g.FirstIndex()
		last, _ := g.LastIndex()
		var term, from uint64
		run := func(to uint64) {
			if from > 0 {
				fmt.Fprintf(&b, " %d..%d t%d", from, to, term)
			}
		}
		for i := first; i <= last && i > 0; i++ {
			var e raft.Log
			if err := g.GetLog(i, &e); err != nil {
				return err.Error() + "\n"
			}
			if e.Term != term {
				run(i - 1)
				term, from = e.Term, i
			}
		}
		run(last)
		for _, k := range []string{keyTerm, keyVoteTerm} {
			if n, err := g.GetUint64([]byte(k)); err == nil {
				fmt.Fprintf(&b, " %s=%d", k, n)
			}
		}
		for _, k := range append([]string{keyCandidate}, slices.Sorted(maps.Keys(s.l.table.groups[id].keys))...) {
			if v, err := g.Get([]byte(k)); err == nil {
				fmt.Fprintf(&b, " %s=%q", k, v)
			}
		}
		b.WriteByte('\n')
	}
	if b.Len() == 0 {
		return "empty\n"
	}
	return b.String()
}

// segments prints the files, record by record.
func (s *script) segments(t *testing.T) string {
	var b strings.Builder
	all := segments(t, s.fs)
	for _, seq := range slices.Sorted(maps.Keys(all)) {
		data := all[seq]
		h, err := decodeHeader(data, seq)
		check(t, err)
		fmt.Fprintf(&b, "segment %d: previous ends at %d, head of %d bytes\n", seq, h.prevEnd, h.head)
		for _, off := range frames(seq, data) {
			r, _, err := decodeRecord(data[off:], seq, off)
			check(t, err)
			m, err := decodeMutation(r)
			check(t, err)
			fmt.Fprintf(&b, "  %4d synced %-4d ", off, r.synced)
			switch m.kind {
			case kindEntry:
				fmt.Fprintf(&b, "entry g%d i%d t%d\n", m.group, m.log.Index, m.log.Term)
			case kindDelete:
				fmt.Fprintf(&b, "delete g%d %d..%d\n", m.group, m.min, m.max)
			case kindSet:
				fmt.Fprintf(&b, "set g%d %s=%q\n", m.group, m.key, m.val)
			case kindVote:
				fmt.Fprintf(&b, "vote g%d term %d vote %d for %q\n",
					m.group, m.vote.term, m.vote.voteTerm, m.vote.candidate)
			case kindDrop:
				fmt.Fprintf(&b, "drop g%d\n", m.group)
			case kindState:
				fmt.Fprintf(&b, "state g%d %d..%d term %d vote %d for %q keys %q\n",
					m.group, m.state.first, m.state.last,
					m.state.vote.term, m.state.vote.voteTerm, m.state.vote.candidate, m.state.keys)
			case kindSeal:
				b.WriteString("seal\n")
			case kindMark:
				b.WriteString("mark\n")
			}
		}
	}
	return b.String()
}
