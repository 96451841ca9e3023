package delta

import (
	"cmp"
	"slices"
	"strings"
)

// BrandColumn is the partition column of a table of sessions that is partitioned by brand and date. As the date, it
// then stands in the log and not in the files.
const BrandColumn = "opening_brand"

// partition says where a row lies in its table. Both values are fixed when the session is opened.
type partition struct {
	brand string // opening_brand, if the table is partitioned by it; "" is null
	date  int32  // days since 1970-01-01, UTC
}

func (p partition) compare(o partition) int {
	return cmp.Or(cmp.Compare(p.date, o.date), strings.Compare(p.brand, o.brand))
}

// sorted are the partitions in their order.
func sorted[V any](m map[partition]V) []partition {
	all := make([]partition, 0, len(m))
	for p := range m {
		all = append(all, p)
	}
	slices.SortFunc(all, partition.compare)
	return all
}
