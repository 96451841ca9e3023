package main

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/procfs"

	"deckle/sim"
)

// userHz is the unit of CPU times in /proc, fixed on Linux.
const userHz = 100

// tree lists the given processes and all below them.
func tree(roots []int) (map[int]procfs.ProcStat, error) {
	all, err := procfs.AllProcs()
	if err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	stats, children := map[int]procfs.ProcStat{}, map[int][]int{}
	for _, p := range all {
		if s, err := p.Stat(); err == nil { // otherwise it has ended meanwhile
			stats[s.PID] = s
			children[s.PPID] = append(children[s.PPID], s.PID)
		}
	}
	out := map[int]procfs.ProcStat{}
	for todo := roots; len(todo) > 0; todo = todo[1:] {
		if s, ok := stats[todo[0]]; ok {
			out[s.PID] = s
			todo = append(slices.Clip(todo), children[s.PID]...)
		}
	}
	for _, pid := range roots {
		if _, ok := out[pid]; !ok {
			return nil, fmt.Errorf("bench: process %d is not running", pid)
		}
	}
	return out, nil
}

// cpuOf is the user and system time of the given processes and all below them, since their start. A child that has
// ended and was waited for is counted with its parent.
func cpuOf(roots []int) (time.Duration, error) {
	procs, err := tree(roots)
	if err != nil {
		return 0, err
	}
	var ticks float64
	for _, s := range procs {
		ticks += s.CPUTime()*userHz + float64(s.CUTime+s.CSTime)
	}
	return time.Duration(ticks / userHz * float64(time.Second)), nil
}

// pssOf is the memory of the given processes and all below them, in bytes: pages that several of them share, as after a
// fork, count once in all.
func pssOf(roots []int) (int64, error) {
	procs, err := tree(roots)
	if err != nil {
		return 0, err
	}
	var sum int64
	for pid := range procs {
		p, err := procfs.NewProc(pid)
		if err != nil {
			continue // it has ended meanwhile
		}
		if m, err := p.ProcSMapsRollup(); err == nil {
			sum += int64(m.Pss)
		}
	}
	return sum, nil
}

// peak samples the memory of processes until it is asked for the greatest value.
type peak struct {
	stop context.CancelFunc
	done sync.WaitGroup
	most int64
}

func followPeak(ctx context.Context, roots []int) *peak {
	ctx, stop := context.WithCancel(ctx)
	p := &peak{stop: stop}
	p.done.Go(func() {
		for {
			if n, err := pssOf(roots); err == nil {
				p.most = max(p.most, n)
			}
			if sim.Pause(ctx, 200*time.Millisecond) != nil {
				return
			}
		}
	})
	return p
}

func (p *peak) end() int64 {
	p.stop()
	p.done.Wait()
	return p.most
}

// loadAverage is the mean number of processes on the whole machine that were running or ready to run in the last
// minute.
func loadAverage() float64 {
	fs, err := procfs.NewDefaultFS()
	if err != nil {
		return 0
	}
	l, err := fs.LoadAvg()
	if err != nil {
		return 0
	}
	return l.Load1
}
