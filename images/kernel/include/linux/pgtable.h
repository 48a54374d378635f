/* SPDX-License-Identifier: GPL-2.0-only */
/* What page-table entries have in common. Mirrors include/linux/pgtable.h; asm/pgtable.h includes it. */
#ifndef _LINUX_PGTABLE_H
#define _LINUX_PGTABLE_H

#include <linux/mm_types.h>

static __always_inline pte_t ptep_get(pte_t *ptep)
{
	pte_t pte = { READ_ONCE(ptep->pte) };

	return pte;
}

/* `new` into an entry that is all zero, or nothing */
static __always_inline bool __ptep_cmpxchg_none(pte_t *ptep, pte_t new)
{
	u64 expected = 0;

	return __atomic_compare_exchange_n(&ptep->pte, &expected, new.pte, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}

static __always_inline pte_t ptep_get_and_clear(pte_t *ptep)
{
	pte_t old = { __atomic_exchange_n(&ptep->pte, 0, __ATOMIC_SEQ_CST) };

	return old;
}

#endif
