"""Whole message templates kept out of every training run; half of the held-out rows are made of them.

Same slots as `training_templates`; other sentences, in the usual words of their intent.
"""

from __future__ import annotations

HELD_OUT: dict[str, tuple[str, ...]] = {
    "refund": (
        "[Please|Could you] refund me for {item}? I sent in {order} {time} and {detail}.",
        "{item} goes back to you, {detail}. I expect the refund for {order} [by {day}|soon].",
        "I am asking for my money back. {detail}, as simple as that. {order}, {item}.",
        "Sadly {detail}. What are the steps to return {item} and get {order} refunded?",
    ),
    "exchange": (
        "Hoping for an exchange here: {detail}. {name} likes {item} otherwise. {order}.",
        "{item} needs to be swapped, {detail}. [Is|Was] that free for {order}?",
        "[May|Can] we exchange {order} {time}? {detail} and {item} is unused.",
        "{order} brought us {item}, however {detail}. We would like to exchange it.",
    ),
    "delivery": (
        "Has {order} been sent out [yet|]? {detail}, and {item} is a present for {name}.",
        "Please tell me when {item} will be delivered. {order} was placed {time}, {detail}.",
        "{detail}. I just want to know where {item} is and when {order} arrives.",
        "Looking for {order} with {item}. Delivery was planned for {day} and {detail}.",
    ),
    "cancel": (
        "Can you cancel {item} for me? {order} was placed {time}, but {detail}.",
        "I no longer want {order}. {detail}. Please cancel {item} [today|now].",
        "Cancellation of {order}: {detail}, so keep {item}.",
        "{name} told me to cancel {order} because {detail}. {item} was in it.",
    ),
    "address": (
        "The address for {order} has to be changed. {detail}, {item} would get lost.",
        "Please send {item} to a new address, {detail}. I ordered {time}, {order}.",
        "Is it possible to change the shipping address? {detail}. {order} with {item}.",
        "[Oops|Sorry], wrong address! {detail}. Please correct it on {order}, {item}, before {day}.",
    ),
    "damaged": (
        "Unfortunately {item} was broken when it came {time}: {detail}. {order}.",
        "I am reporting a damaged delivery. {order}, {item}, {detail}.",
        "{detail} when {name} opened the parcel with {item}. Everything in {order} is damaged.",
        "What happened to {order}? {item} got damaged on the way, {detail}.",
    ),
    "missing_part": (
        "We are missing a part. {detail}, so {item} cannot be used. {order}.",
        "{item} came {time} but it is not complete: {detail}. Please send the part, {order}.",
        "Please post the missing piece to {name}. {detail} in {order}, {item}.",
        "{order}, {item}: {detail}. How do I get the missing part [by {day}|quickly]?",
    ),
    "wrong_item": (
        "The wrong item was delivered {time}, {detail}. I had ordered {item}, {order}.",
        "{order} should have been {item}. But {detail}, so you mixed something up.",
        "I think you sent me the parcel of {name}. {detail} and not {item}. {order}.",
        "{detail}, what is this? I ordered {item} [on {day}|{time}]. Wrong article in {order}.",
    ),
    "payment": (
        "Need help with paying {order}. {detail}, and {item} is still in my basket.",
        "Something went wrong with my payment {time}. {detail}. I wanted {item}, {order}.",
        "{order} for {item}: {detail}. Did the payment go through on {day}?",
        "[Please|Kindly] check this payment, {detail}. {name} paid for {item} in {order}.",
    ),
    "invoice": (
        "Could I have an invoice for {item}, bought {time}? {detail}. {order}.",
        "I never got the invoice. {order} was {item}, and {detail}.",
        "A new invoice would help {name}, {detail}. It concerns {order} and {item}.",
        "For {order} with {item} we [require|need] the invoice by {day}, {detail}.",
    ),
    "warranty": (
        "Does the warranty apply? {detail}. I have had {item} since {day}, {order}.",
        "{item} has stopped working properly, {detail}. I ask for a repair under the guarantee. {order}.",
        "I would like to make a warranty claim: {detail} {time}. {order}, {item}.",
        "Please repair {item} for {name}, {detail}. The warranty of {order} [covers|includes] it.",
    ),
    "question": (
        "[Just a|One] question on {item} [before {day}|]: do you know {detail}?",
        "{name} would like to know {detail}. It is about buying {item}.",
        "I might buy {item}. Could you [please |]find out {detail}?",
        "I am curious {detail}. There is nothing about it on the page of {item}.",
    ),
    "account": (
        "No access to my account. {detail}. It worked {time}.",
        "Please help me to log in, {detail}. {name} tried it [on {day}|{time}] too.",
        "Logging in fails: {detail}. I cannot see {order} now.",
        "My login is [gone|dead]. {detail}, and I need the account by {day}.",
    ),
    "voucher": (
        "I have a voucher for {item} but {detail}. {order}.",
        "The coupon {name} gave me fails. {detail}. I bought {item} {time}.",
        "Please take the discount off {order}. {detail}, and {item} was full price.",
        "My discount code for {item} [is refused|does nothing]: {detail}. [What now|Any idea]? {order}.",
    ),
    "privacy": (
        "Erase everything you have on me. {detail}, and I want all personal data deleted by {day}.",
        "I object to you storing my data. {detail}. Please delete it, {name}.",
    ),
    "safety": (
        "Warning, {item} is a hazard! {detail} {time}. See {order}.",
        "{detail} and {name} was nearly hurt. {item} is not safe to use. {order}.",
    ),
}
