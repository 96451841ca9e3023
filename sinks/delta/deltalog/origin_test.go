package deltalog

import (
	"reflect"
	"strings"
	"testing"
)

func TestParts(t *testing.T) {
	for _, text := range []string{"0:41-42 3:17-18", "1:0-0 4294967295:0-18446744073709551615"} {
		parts := parseParts(text)
		if tags := TagsOf(parts); len(parts) != 2 || tags[TagParts] != text || len(tags) != 1 {
			t.Errorf("%q is %+v, whose tags are %v", text, parts, tags)
		}
		if parseOrigin(TagsOf(parts)).Tagged {
			t.Errorf("%q: a binary that does not know the tag takes the file for one of one shard", text)
		}
	}
	for _, text := range []string{"", "0:1-2", "3:1-2 0:1-2", "0:1-2 0:3-4", "0:2-1 1:1-2", "0:1-2  1:1-2",
		"0:1-2 1:1-", "00:1-2 1:1-2", "0:1-2 1:1-2 ", "0:1-2 4294967296:1-2", "0:1-2,1:1-2", "-0:1-2 1:1-2",
		strings.Repeat("0:1-2 ", MaxParts) + "1:1-2"} {
		if parts := parseParts(text); parts != nil {
			t.Errorf("%q is %+v, want not known", text, parts)
		}
	}
	one := func(shard uint32, from, to uint64) *File { return &File{Origin: Origin{true, shard, from, to}} }
	several := &File{Parts: []Origin{{true, 1, 5, 6}, {true, 7, 1, 2}}}
	merged := MergeOrigins(one(7, 8, 9), several, one(2, 0, 3))
	if want := []Origin{{true, 1, 5, 6}, {true, 2, 0, 3}, {true, 7, 1, 9}}; !reflect.DeepEqual(merged, want) {
		t.Errorf("merged %+v, want %+v", merged, want)
	}
	f := &File{Parts: merged}
	for shard, epochs := range map[uint32][2]uint64{1: {6, 7}, 2: {1, 4}, 7: {5, 1}} {
		if !f.May(shard, epochs[0]) || f.May(shard, epochs[1]) || f.May(shard+10, epochs[0]) {
			t.Errorf("shard %d of %+v", shard, f.Parts)
		}
	}
	if o := MergeOrigins(several, &File{}); o != nil || TagsOf(o) != nil || !(&File{}).May(3, 4) {
		t.Errorf("a file without tags was merged to %+v", o)
	}
	var many []*File
	for s := range uint32(MaxParts + 1) {
		many = append(many, one(s, 1, 2))
	}
	if MergeOrigins(many[1:]...) == nil || MergeOrigins(many...) != nil {
		t.Errorf("the limit of %d shards does not hold", MaxParts)
	}
}
