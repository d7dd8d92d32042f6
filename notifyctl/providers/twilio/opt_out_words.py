"""What a person means who writes to a number: no more messages, or messages again.

Twilio itself acts on a message of one English word and leaves the rest to us. In the United States a caller must take
"stop", "quit", "end", "revoke", "opt out", "cancel" and "unsubscribe", and other words in which a reasonable person
sees the same wish (47 CFR 64.1200(a)(10)). So the whole message must be such a wish, in a few languages and however
it is written: capitals, accents, width, quotes, punctuation and emoji do not count, nor does a "please". A word inside
a sentence that says something else never counts.

https://help.twilio.com/articles/223134027-Twilio-support-for-opt-out-keywords-SMS-STOP-filtering-
"""

import re
import unicodedata
from collections.abc import Iterator
from enum import StrEnum
from functools import cache
from itertools import product
from typing import NamedTuple

STOP_WORDS = frozenset({"STOP", "STOPALL", "UNSUBSCRIBE", "CANCEL", "END", "QUIT", "REVOKE", "OPTOUT"})
"""Those on which Twilio acts itself."""
START_WORDS = frozenset({"START", "YES", "UNSTOP"})
LONGEST = 1_600
"""Characters of a message, as Twilio has it."""


class Wish(StrEnum):
    STOP = "STOP"
    START = "START"


def wish_of(text: str) -> Wish | None:
    """None for whatever asks for neither, and for what asks for both."""
    if len(text) > LONGEST:
        return None
    words = _plain(text)
    if words == "yes":  # and nothing beside it: "yes, thanks" may answer anything
        return Wish.START
    whole = _meant(_without_fillers(words))
    if whole is not None:
        return whole
    clauses = (_without_fillers(_plain(clause)) for clause in _CLAUSES.split(_BELOW.split(text)[0]))
    wishes = {_meant(clause) for clause in clauses if clause}
    return wishes.pop() if len(wishes) == 1 else None


def _meant(words: str) -> Wish | None:
    patterns = _patterns()
    if patterns.start.fullmatch(words):
        return Wish.START
    if patterns.stop.fullmatch(words):
        return Wish.STOP
    # Of several words each must be the wish itself, or what it may be about in whichever order a language has it.
    apart = {word: bool(patterns.stop.fullmatch(word)) for word in words.replace("opt out", "optout").split()}
    if apart and all(apart.values()):
        return Wish.STOP
    wishes = any(is_stop and word != _FOR for word, is_stop in apart.items())
    is_fit = all(is_stop or patterns.beside.fullmatch(word) for word, is_stop in apart.items())
    return Wish.STOP if wishes and is_fit else None


def _plain(text: str) -> str:
    """Words of small letters and digits with single blanks between them, without accents."""
    signed = _SIGNS.sub(" stop ", unicodedata.normalize("NFKC", text))
    spread = unicodedata.normalize("NFKD", signed.casefold())
    kept = "".join(_kept(character) for character in spread)
    words = unicodedata.normalize("NFC", kept).split()
    return "".join(words) if all(len(word) == 1 and word.isascii() for word in words) else " ".join(words)


def _kept(character: str) -> str:
    if character.isalnum():
        return character
    if "\u0900" <= character < "\u1800" and unicodedata.category(character) == "Mn":
        return character  # a vowel, in Hindi as in Thai: without it a drop (बूंद) would be a stop (बंद)
    is_dropped = character in _APOSTROPHES or unicodedata.category(character) in ("Mn", "Cf")
    return "" if is_dropped else " "


def _without_fillers(words: str) -> str:
    patterns = _patterns()
    return patterns.fillers_after.sub("", patterns.fillers_before.sub("", words))


_SIGNS = re.compile(r"\N{OCTAGONAL SIGN}|(?<![^\W_])dừng(?![^\W_])", re.IGNORECASE)
"""Vietnamese keeps its marks here: without them, as most write it, "dung" is "right" and a name, too."""
_APOSTROPHES = (
    "'\N{RIGHT SINGLE QUOTATION MARK}\N{LEFT SINGLE QUOTATION MARK}\N{MODIFIER LETTER APOSTROPHE}`\N{ACUTE ACCENT}"
)
_CLAUSES = re.compile(r"[.!?,;:\n\r]+")
_BELOW = re.compile(r"^-- ?\r?$", re.MULTILINE)
"""What stands under it is a signature."""

_UMLAUTS = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue"})

_FILLERS = (
    "please, pls, plz, kindly, thanks, thank you, thx, ty, ok, okay, now, right now, immediately, already, at once, hi,"
    "hello, sir, sil vous plait, sil te plait, svp, stp, merci, maintenant,"
    "bitte, danke, sofort, jetzt, por favor, gracias, ya, ahora, per favore, grazie, obrigado, obrigada, aub,"
    "alstublieft, alsjeblieft, bedankt, tak, takk, tack, kiitos, proszę, prosím, děkuji, va rog, molim, hvala, lütfen,"
    "пожалуйста, спасибо, будь ласка, дякую, παρακαλώ, ευχαριστώ, tolong, terima kasih, お願いします, してください,"
    "no thanks, no thank you, nein danke, non merci, no gracias, no grazie, nee bedankt, nej tak, nej tack"
)
_BESIDE = (
    "sms, смс, msg, msgs, message, messages, text, texts, textos, txt, txts, alerts, notifications, reminders,"
    "newsletter, nachricht, nachrichten, erinnerungen, benachrichtigungen, rappels, mensaje, mensajes, notificaciones,"
    "recordatorios, messaggi, notifiche, promemoria, mensagens, notificações, lembretes, berichten, herinneringen,"
    "wiadomości, сообщения, уведомления, повідомлення, all, and, or, und, oder, et, ou, please, pls, plz, bitte, svp"
)
"""Beside a wish; by themselves none of them is one."""
_FOR = "para"
"""A wish by itself in Spanish and Portuguese; "para mensajes" is what something is for."""
_SIGNATURE = (
    r"(?:(?:sent|envoye|enviado|inviato) (?:from|de|depuis|desde|da) (?:my|mon|mi|meu|mio)"
    r"|(?:von|mit) meinem)(?: \w+){1,3}|(?:(?:sent|envoye|enviado) (?:from|depuis|desde) |get )"
    r"(?:outlook|yahoo mail|proton mail)(?: (?:for|on|pour|para) \w+)?"
)
"""As telephones put it below what they send."""

_THINGS = (
    r"(all |any |any more |more |further |the |these |those |this |your |all the |all these |all your )?"
    r"((marketing|promotional|automated) )?"
    r"(?:my )?(texts?|text messages?|txts?|messages?|msgs?|sms|notifications?|alerts?|reminders?"
    r"|communications?|marketing|promotions|spam)"
)
_LIST = r"(this|your|ur|the|all|all your) (\w+ )?(lists?|database)"
_AGAIN = r"( anymore| any more| again| ever again)?"
_UNSUBSCRIBE = r"unsubscribe|un subscribe|unsub|unsuscribe|unsubcribe|unsubscibe"
_I_WANT_TO = r"((i )?(want|wish|would like|need) to |id like to )?"

_ENGLISH_STOP = (
    r"(no( thanks| thank you)? )?((stt?[o0]+p+)+|stpo|sotp|sopt)"
    r"( all| it| this| that| these| those| them| everything)?",
    r"stop( au| to)? ?\d{1,6}|opted out|quit it|unreg|(stop|end) service",
    r"((sorry|you have|you got|this is) )?(the |a )?wrong (number|person)( stop)?|stop wrong number",
    r"(im )?(not|no longer) interested|(just )?go away|(fuck|piss|f) off|get lost",
    rf"{_I_WANT_TO}stop (receiving|getting) ({_THINGS}|this|these|them)( from you)?{_AGAIN}",
    r"stopall|(end|quit|cancel)( all)?|no more|leave me alone|lose my number|cease( and desist)?|desist",
    r"stop ?(to|2) ?(end|quit|cancel|stop|unsubscribe|opt ?out)|(reply|text|send|type)( with)? stop",
    rf"{_I_WANT_TO}(optout|opt (me |us )?out|{_UNSUBSCRIBE})( me| us| all)?",
    rf"{_I_WANT_TO}(opt (me )?out (of|from)|unsubscribe( me)? from)"
    rf" ({_THINGS}|{_LIST}|all|everything|these)",
    r"unsubscribe (this|my) number",
    rf"(stop|end|quit|cancel|no|no more) {_THINGS}( to me| from you)?{_AGAIN}",
    rf"(i )?((do not|dont) (want|wish)|no longer (want|wish))( to get| to receive)? ({_THINGS}|these)"
    rf"( from you)?{_AGAIN}",
    # Without such a word "this" may be whatever the last message was about.
    r"(i )?((do not|dont) want (this (anymore|any more)|to (get|receive) this)|no longer want this)",
    rf"(stop|quit) (texting|txting|messaging|contacting|spamming|bothering|harassing|writing|calling|sending)"
    r"(( and| or) (texting|messaging|calling|writing))?"
    rf"( to)?( me| us| this number)?( {_THINGS}| this| these)?( to me| to this number)?{_AGAIN}",
    rf"(do not|dont|never) (text|txt|sms|message|contact|spam|bother|write|call|send)"
    rf"( to)?( me| us| this number)?( {_THINGS})?{_AGAIN}",
    r"opting out|i opt out|revoke|(i )?(revoke|withdraw)( my| all)? (consent|permission)"
    rf"( to (be (contacted|texted|messaged|called)|(receive|get) {_THINGS}))?",
    rf"remove( me| us| my number| this number| number)?"
    rf"( (from|off)( of)? ({_LIST}|{_THINGS}|list|this|these))?",
    rf"(take|get) (me|us|my number|this number) off( of)?( {_LIST})?",
    rf"delete (me|my number|this number)( from {_LIST})?",
)
_ENGLISH_START = (
    r"(yes )?start( again)?|unstop|un stop|restart|resume",
    rf"{_I_WANT_TO}(optin|opt( me)?( back)? in|(re ?)?subscribe( me)?( again)?)",
    r"sign me( back)? up",
    rf"(start|restart|resume) (texting|messaging|sending)( me| us)?( {_THINGS})?( again)?",
    rf"(start|restart|resume) {_THINGS}( again)?",
)

_STOP_ELSEWHERE = {
    "French": (
        "arrêt, arrêts, arrête, arrett, arrêter, arrêtez, annuler, résilier, fin, quitter, désabonner, désabonnement,"
        "désabonnez-moi, me désabonner, se désabonner, je me désabonne, je veux me désabonner,"
        "je souhaite me désabonner, désinscrire, désinscription, désinscrivez-moi, me désinscrire, retirez-moi,"
        "stop sms, stop pub, stop messages, arrêt sms, plus de sms, plus de messages, ne plus recevoir de sms,"
        "ne plus recevoir de messages, arrêtez les sms, arrêtez les messages, arrêtez de m'envoyer des sms,"
        "arrêtez de m'envoyer des messages, ne m'envoyez plus de sms, ne m'envoyez plus de messages,"
        "ne m'envoyez plus rien, ne me contactez plus, ne m'écrivez plus,"
        "{/je }ne {veux/souhaite} plus {/recevoir }{de/vos/des/ces} {sms/messages/textos/notifications},"
        "{arrêter/arrêtez/arrête/stop/stop à} {les/vos/ces/tous les} {sms/messages/textos},"
        "stop aux {sms/messages},"
        "{arrête/arrêtez} de m'{écrire/envoyer des textos}, ne plus m'écrire, ne plus me contacter,"
        "ne plus m'envoyer de {sms/messages}, plus de {textos/notifications},"
        "supprimez-moi{/ de la liste/ de vos listes}, se désinscrire, je me désinscris, terminer, cessez,"
        "{je veux/je souhaite/je voudrais/de/veuillez} {me désinscrire/me désabonner/me retirer de la liste/arrêter"
        "/ne plus me contacter/ne plus m'envoyer de sms/ne plus m'envoyer de messages}, d'arrêter, mauvais numéro,"
        "pas intéressé"
    ),
    "Spanish": (
        "alto, parar, para, pare, paren, basta, baja, dar de baja, darme de baja, dame de baja, denme de baja,"
        "quiero darme de baja, cancelar, cancela, cancelen, detener, detengan, deténganse, fin, salir, terminar,"
        "desuscribir, desuscribirme, desuscribirse, revocar, no más, no más mensajes, no más sms, no más textos,"
        "no enviar más, no enviar más mensajes, no me envíes más mensajes, no me envíen más, no me envíen más mensajes,"
        "no me manden más, no me manden más mensajes, no me escriban, no me escriban más, no me contacten,"
        "no me contacten más, dejen de enviarme mensajes, dejen de escribirme, deja de escribirme, bórrenme,"
        "quítenme de la lista, quítenme de su lista, quítame de la lista, borrarme, bórrame, bórreme, elimíname,"
        "elimínenme, darse de baja, quiero cancelar, basta de mensajes, parar {mensajes/sms}, no molestar, no molesten,"
        "{/ya }no {quiero/deseo}{/ recibir}{/ más/ sus/ estos} {mensajes/sms/textos/notificaciones},"
        "no {enviar/mandar} {mensajes/sms},"
        "no me {envíes/envíe/envíen/mandes/mande/manden}{/ más}"
        " {mensajes/sms/textos},"
        "{deja/deje/dejen} de {enviarme/mandarme/enviar/mandar} {mensajes/sms/textos}, {deja/deje/dejen} de molestar,"
        "dar baja, eliminar, anular, no me interesa, número equivocado, no me {llamen/llame} más"
    ),
    "German": (
        "stoppen, ende, beenden, schluss, aufhören, hören Sie auf, hör auf, kündigen, löschen, abmelden, abmeldung,"
        "mich abmelden, melden Sie mich ab, melde mich ab, ich möchte mich abmelden, ich will mich abmelden,"
        "abbestellen, sms abbestellen, nachrichten abbestellen, austragen, tragen Sie mich aus, abbrechen, widerruf,"
        "widerrufen, ich widerrufe, ich widerrufe meine einwilligung, einwilligung widerrufen, keine sms,"
        "keine sms mehr, keine weiteren sms, keine nachrichten, keine nachrichten mehr, keine weiteren nachrichten,"
        "ich will keine sms mehr, ich möchte keine sms mehr, ich will keine nachrichten mehr,"
        "ich möchte keine nachrichten mehr, nicht mehr schreiben, schreiben Sie mir nicht mehr,"
        "lassen Sie mich in ruhe, lass mich in ruhe, hört auf, hören Sie damit auf, abbruch,"
        "keine{/ weiteren} {sms/nachrichten/benachrichtigungen}{/ mehr} {senden/schicken/erhalten/bekommen},"
        "{senden/schicken} Sie{/ mir} keine{/ weiteren} {sms/nachrichten}{/ mehr}, {schick/schickt} mir keine"
        " {sms/nachrichten} mehr, ich {will/möchte} keine{/ weiteren} {sms/nachrichten}{/ mehr} {erhalten/bekommen},"
        "ich {will/möchte} keine weiteren {sms/nachrichten}, keine werbung{/ mehr}, nicht mehr anschreiben,"
        "{nehmen/löschen/entfernen} Sie mich{/ von der liste/ aus der liste/ aus dem verteiler},"
        "keine erinnerungen{/ mehr}, kein interesse, ich möchte das nicht mehr, falsche nummer,"
        "ich {will/möchte} keine {sms/nachrichten}"
    ),
    "Italian": "ferma, fermare, fermate, annulla, cancellami, disiscrivi, disiscrivimi, disiscrizione, disattiva,"
    "rimuovimi, basta messaggi, niente più messaggi, niente più sms, non scrivetemi più, sospendi, smettila,"
    "smettetela, cancella, cancellazione, non voglio{/ più}{/ ricevere} {messaggi/sms}, annulla iscrizione,"
    "disiscrivermi, cancellatemi, rimuovetemi, toglimi dalla lista, non contattatemi{/ più}, numero sbagliato",
    "Portuguese": "sair, remover, descadastrar, descadastre, fim, encerrar, cancele, não quero mais,"
    "não quero mais mensagens, não quero receber mensagens, não quero mais receber {mensagens/sms}, parar mensagens,"
    "{pare/parem} de {/me }{enviar/mandar} mensagens, não me {envie/enviem/mande/mandem} mais mensagens,"
    "quero sair, descadastro, cancelar inscrição, parar de receber, não quero{/ mais} receber,"
    "{pare/parem} de {enviar/mandar}{/ sms}, número errado",
    "Dutch": "afmelden, uitschrijven, einde, annuleren, opzeggen, geen sms meer, geen berichten meer, meld mij af,"
    "schrijf mij uit, stop ermee, stop met {sms/berichten}, ik wil geen {sms/berichten} meer{/ ontvangen}",
    "Scandinavian, Finnish": "stoppa, avsluta, avregistrera, avmeld, afmeld, afmelding, lopeta, peruuta, frameld,"
    "avslutt, avbryt, sluta, sluta skicka, stans, lopettaa, poista",
    "Polish, Czech, Slovak": "koniec, wypisz, wypisz mnie, rezygnuję, rezygnacja, zrezygnuj, anuluj, usuń, usuń mnie,"
    "konec, odhlásit, odhlásiť, odhlaste mě, zrušit, zrušiť",
    "Romanian, Hungarian, Turkish": "dezabonare, dezabonează, renunț, leiratkozás, leiratkozom, stornó, iptal, durdur,"
    "iptal et, dur, ret, abonelikten çık, mesaj istemiyorum",
    "Croatian, Serbian, Slovene": "odjava, odjavi, odjavi me, prekid, prekini, prestani, stopi",
    "Russian, Ukrainian, Greek": "стоп, отписаться, отписка, отмена, остановить, відписатися, скасувати, στοπ, διακοπή,"
    "отменить, отпишите, отпишите меня, отписать, не пишите{/ мне}, не присылайте{/ сообщения/ смс}, удалите меня,"
    "відписка, відписати, відмова, не пишіть{/ мені}, не надсилайте",
    "Bulgarian": "спри, спрете, отказ, отпиши ме",
    "Hebrew, Arabic": "הסר, הסרה, הסר אותי, להסרה, תסירו אותי, תפסיק, תפסיקו, עצור, בטל, ביטול,"
    "توقف, إيقاف, إلغاء, إلغاء الاشتراك, قف, وقف",
    "Chinese": "td, 停, 停止, 停止发送, 停止接收, 退订, 退訂, 取消, 取消订阅, 取消訂閱, 拒收, 不要再发, 不要再发了",
    "Japanese, Korean": "ストップ, 停止してください, 配信停止, 解除, 止めて, やめて, 중지, 정지, 중단,"
    "그만, 수신거부, 취소, 해지",
    "Indonesian, Malay, Filipino": "berhenti, hentikan, henti, batal, berhenti berlangganan, itigil, hinto, tigil",
    "Vietnamese, Thai, Hindi": "hủy, từ chối, ยกเลิก, หยุด, बंद, बंद करो, रोकें, रोको, band karo",
}
"""None of them says yes in another language, as the Italian "fine" does."""

_START_ELSEWHERE = {
    "French": "commencer, recommencer, reprendre, démarrer, réabonner, me réabonner, s'abonner, m'abonner",
    "Spanish": "alta, dar de alta, darme de alta, iniciar, comenzar, empezar, reanudar, suscribir, suscribirme",
    "German": "starten, anmelden, wieder anmelden, mich anmelden, abonnieren, fortsetzen",
    "Italian, Portuguese, Dutch": "inizia, iscrivi, iscrivimi, riprendi, começar, retomar, aanmelden, inschrijven",
    "Russian": "старт, подписаться",
}
"""A mere oui, sí or ja may answer anything, and frees from nothing."""


def _phrases(listed: str) -> Iterator[str]:
    """Each without its accents, and with ue for ü as who has no umlauts writes it."""
    for phrase in (spelt for listed_one in listed.split(",") for spelt in _spelt_out(listed_one)):
        yield re.escape(_plain(phrase))
        yield re.escape(_plain(phrase.translate(_UMLAUTS)))


def _spelt_out(phrase: str) -> Iterator[str]:
    """Once for each of the choices in braces; {/more} may be left out."""
    parts = re.split(r"[{}]", phrase)
    yield from map("".join, product(*(part.split("/") if place % 2 else [part] for place, part in enumerate(parts))))


def _any_of(english: tuple[str, ...], elsewhere: dict[str, str]) -> re.Pattern[str]:
    return re.compile("|".join((*english, *(phrase for listed in elsewhere.values() for phrase in _phrases(listed)))))


class _Patterns(NamedTuple):
    fillers_before: re.Pattern[str]
    fillers_after: re.Pattern[str]
    beside: re.Pattern[str]
    stop: re.Pattern[str]
    start: re.Pattern[str]


@cache
def _patterns() -> _Patterns:
    """Made when somebody first writes: it takes a twentieth of a worker's whole start."""
    filler = "|".join([_SIGNATURE, *sorted(_phrases(_FILLERS), key=len, reverse=True)])
    return _Patterns(
        re.compile(rf"^(?:(?:{filler})(?: |$))+"),
        re.compile(rf"(?:(?:^| )(?:{filler}))+$"),
        re.compile("|".join(_phrases(_BESIDE))),
        _any_of(_ENGLISH_STOP, _STOP_ELSEWHERE),
        _any_of(_ENGLISH_START, _START_ELSEWHERE),
    )
