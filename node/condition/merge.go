package condition

import "slices"

// Shared says whether an id concerns something outside of the nodes, or all of them, so that each node that finds it
// means the same thing by the same subject: a topic, a member that is down. Others concern what each node has its own
// of, a data folder or a file.
func Shared(id ID) bool {
	switch id {
	case MemberDown, ShardWithoutLeader, SuppressionDiffers, LettersUndelivered, LettersCut, LettersKept,
		TopicCompacted, TopicRetentionShort, TopicCreateTime, TopicUnchecked, KeysUnproven, ShardsIdle:
		return true
	}
	return false
}

// Found is a condition, and the nodes that have found it, in the order of their names.
type Found struct {
	Condition
	Nodes []string `json:"nodes"`
}

// Merge makes one list of those of several nodes, in the order of Compare. What is Shared is there once for each
// subject, as the node has it that finds it the gravest, or found it first, since when the first one found it.
func Merge(lists ...[]Condition) []Found {
	all := slices.Concat(lists...)
	slices.SortFunc(all, Compare)
	out := make([]Found, 0, len(all))
	at := map[key]int{}
	for _, c := range all {
		k := key{c.ID, c.Subject}
		if i, ok := at[k]; ok && Shared(c.ID) {
			f := &out[i]
			if !slices.Contains(f.Nodes, c.Node) {
				f.Nodes = append(f.Nodes, c.Node)
			}
			if c.Since.Before(f.Since) {
				f.Since = c.Since
			}
			continue
		}
		at[k] = len(out)
		out = append(out, Found{c, []string{c.Node}})
	}
	for i := range out {
		slices.Sort(out[i].Nodes)
	}
	slices.SortFunc(out, func(a, b Found) int { return Compare(a.Condition, b.Condition) })
	return out
}
