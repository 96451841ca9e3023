package deltalog

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
)

// Tags of a data file that holds one shard's rows.
const (
	TagShard = "deckle.shard"
	TagFrom  = "deckle.from" // exclusive
	TagTo    = "deckle.to"   // inclusive
)

// TagParts is the tag of a data file that holds rows of several shards, which has none of the others: for each shard,
// ascending, SHARD:FROM-TO, with a space between. To a binary that does not know it the file has no tags.
const TagParts = "deckle.parts"

// MaxParts is how many shards a tag names. A file with rows of more has no tags, and may hold any row.
const MaxParts = 64

// Origin says which shard's rows a file holds, first visible in which epochs (From, To].
type Origin struct {
	Tagged   bool
	Shard    uint32
	From, To uint64
}

// Tags renders the origin as tags of an add.
func (o Origin) Tags() map[string]string {
	return map[string]string{
		TagShard: strconv.FormatUint(uint64(o.Shard), 10),
		TagFrom:  strconv.FormatUint(o.From, 10),
		TagTo:    strconv.FormatUint(o.To, 10),
	}
}

// May reports whether the file may hold a row of the shard first visible in the epoch. A file without tags (rewritten
// by another tool) may hold any.
func (o Origin) May(shard uint32, epoch uint64) bool {
	return !o.Tagged || o.Shard == shard && o.From < epoch && epoch <= o.To
}

func parseOrigin(tags map[string]string) Origin {
	shard, err1 := strconv.ParseUint(tags[TagShard], 10, 32)
	from, err2 := strconv.ParseUint(tags[TagFrom], 10, 64)
	to, err3 := strconv.ParseUint(tags[TagTo], 10, 64)
	if err1 != nil || err2 != nil || err3 != nil {
		return Origin{}
	}
	return Origin{Tagged: true, Shard: uint32(shard), From: from, To: to}
}

// May reports whether the file may hold a row of the shard first visible in the epoch.
func (f *File) May(shard uint32, epoch uint64) bool {
	if len(f.Parts) == 0 {
		return f.Origin.May(shard, epoch)
	}
	return slices.ContainsFunc(f.Parts, func(o Origin) bool { return o.May(shard, epoch) })
}

// Origins are those of the file's rows, ascending by shard; nil if they are not known.
func (f *File) Origins() []Origin {
	if f.Origin.Tagged {
		return []Origin{f.Origin}
	}
	return f.Parts
}

// OriginsOf are the origins that the tags of an add name, ascending by shard; nil if they are not known.
func OriginsOf(tags map[string]string) []Origin {
	if o := parseOrigin(tags); o.Tagged {
		return []Origin{o}
	}
	return parseParts(tags[TagParts])
}

// MergeOrigins returns the origins of a file that has the rows of several files: one range for each shard, which covers
// all of its ranges. It returns nil, not known, if those of one file are not known, or if there are too many shards.
func MergeOrigins(files ...*File) []Origin {
	var all []Origin
	for _, f := range files {
		origins := f.Origins()
		if len(origins) == 0 {
			return nil
		}
		all = append(all, origins...)
	}
	return UnionOrigins(all...)
}

// UnionOrigins returns one range for each shard, ascending by shard, which covers all of its ranges. It returns nil,
// not known, if there are too many shards. All of the origins must be known.
func UnionOrigins(origins ...Origin) []Origin {
	by := map[uint32]Origin{}
	for _, o := range origins {
		if was, ok := by[o.Shard]; ok {
			o.From, o.To = min(o.From, was.From), max(o.To, was.To)
		}
		by[o.Shard] = o
	}
	if len(by) > MaxParts {
		return nil
	}
	merged := make([]Origin, 0, len(by))
	for _, o := range by {
		merged = append(merged, o)
	}
	slices.SortFunc(merged, func(a, b Origin) int { return cmp.Compare(a.Shard, b.Shard) })
	// gofail: var bugOriginsLost struct{}
	// merged = merged[:1]
	return merged
}

// TagsOf renders origins, ascending by shard, as tags of an add; nil for those that are not known.
func TagsOf(origins []Origin) map[string]string {
	switch {
	case len(origins) == 0 || len(origins) > MaxParts:
		return nil
	case len(origins) == 1:
		return origins[0].Tags()
	}
	return map[string]string{TagParts: partsText(origins)}
}

func partsText(origins []Origin) string {
	var b []byte
	for i, o := range origins {
		if i > 0 {
			b = append(b, ' ')
		}
		b = append(strconv.AppendUint(b, uint64(o.Shard), 10), ':')
		b = append(strconv.AppendUint(b, o.From, 10), '-')
		b = strconv.AppendUint(b, o.To, 10)
	}
	return string(b)
}

// parseParts reads the value of TagParts. Anything but what TagsOf writes is not known, which is nil.
func parseParts(text string) []Origin {
	var out []Origin
	for part := range strings.SplitSeq(text, " ") {
		shard, rest, _ := strings.Cut(part, ":")
		from, to, _ := strings.Cut(rest, "-")
		o := Origin{Tagged: true}
		n, err1 := strconv.ParseUint(shard, 10, 32)
		var err2, err3 error
		o.From, err2 = strconv.ParseUint(from, 10, 64)
		o.To, err3 = strconv.ParseUint(to, 10, 64)
		o.Shard = uint32(n)
		if err1 != nil || err2 != nil || err3 != nil || o.From > o.To ||
			len(out) > 0 && out[len(out)-1].Shard >= o.Shard {
			return nil
		}
		out = append(out, o)
	}
	if len(out) < 2 || len(out) > MaxParts || partsText(out) != text {
		return nil
	}
	return out
}
