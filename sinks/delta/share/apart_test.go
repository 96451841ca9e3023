package share

import (
	"testing"
	"testing/synctest"
	"time"
)

// The commits of the last hour are counted, and those before it are forgotten.
func TestApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := NewApart(time.Now)
		is := func(own, all int) {
			t.Helper()
			if o, n := a.LastHour(); o != own || n != all {
				t.Errorf("%d of %d, want %d of %d", o, n, own, all)
			}
		}
		is(0, 0)
		for i := range 90 {
			a.Note(i%3 == 0)
			time.Sleep(time.Minute)
		}
		is(19, 59) // those of the last 59 whole minutes; the present one has none
		a.Note(true)
		is(20, 60)
		time.Sleep(30 * time.Minute)
		is(10, 30)
		time.Sleep(24 * time.Hour)
		is(0, 0)
	})
}
