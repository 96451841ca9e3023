// Package constraint understands the CHECK constraints of Delta tables, as far as they are comparisons.
//
// # Promise
//
// Parse either gives an expression that every SQL engine reads alike, or an error that says what is not understood.
// Eval then is what SQL's three-valued logic says. A row satisfies a constraint only if that is True: the protocol
// wants an expression that "returns true for each row", so that Unknown (a null in a comparison) violates it, as in
// Spark. (delta-rs lets such a row pass: a row that it has written may be one that Deckle would not write.)
//
// # Grammar
//
//	or         = and { OR and }
//	and        = not { AND not }
//	not        = { NOT } predicate
//	predicate  = "(" or ")" | operand comparison operand | operand IS [NOT] NULL
//	           | operand [NOT] IN "(" literal { "," literal } ")"
//	comparison = "=" | "==" | "<>" | "!=" | "<" | "<=" | ">" | ">="
//	operand    = column | literal
//	literal    = number | 'text' | DATE 'yyyy-mm-dd' | TIMESTAMP 'yyyy-mm-dd hh:mm:ss[.ffffff]Z' | NULL
//	column     = letters, digits and _ | `any`
//
// # Refused, because engines differ
//
// Texts with a backslash or with a doubled quote (Spark 3 and 4 and DataFusion read them differently), texts in double
// quotes, numbers with an exponent, comparisons of values of different types (engines cast them by their own rules)
// but for a date or timestamp column beside a text that is one of them, timestamps without a zone (the session's zone
// would decide), functions, arithmetic and nested columns.
package constraint
